{
  description = "A program of nixpkgs in a guest (Preview: it ran against a stand-in only)";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.mvmnix.url = "path:../..";
  inputs.mvmnix.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { mvmnix, nixpkgs, ... }:
    {
      packages.x86_64-linux.default = mvmnix.lib.mkGuest {
        name = "nixpkgs-hello";
        pkgs = nixpkgs.legacyPackages.x86_64-linux;
        packages = p: [ p.hello ];
        command = [ "/bin/hello" ];
      };
    };
}
