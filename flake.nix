# The contents page: what this flake offers, each line pointing at the file that makes it.
{
  description = "mvm: from a pinned flake to a verified, running microVM";

  # Locked, and fetched only by the one output that touches it: mvm-nixpkgs.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      house = import ./modules { inherit system; };
      mvm = import ./modules/python/mvm.nix { inherit house; };
    in
    {
      lib = { inherit (house) mkGuest mkOciGuest packages profiles; };

      packages.${system} = {
        inherit mvm;
        default = mvm;
        builder = house.mkGuest house.profiles.builder;
        minimal = house.mkGuest house.profiles.minimal;
        python = house.mkGuest house.profiles.python;
      };

      apps.${system} = rec {
        mvm = {
          type = "app";
          program = "${self.packages.${system}.mvm}/bin/mvm";
          meta.description = "from a pinned flake to a verified, running microVM";
        };
        default = mvm;
      };

      checks.${system}.mvm = mvm.check;

      # Preview: for users of nixpkgs, and evaluated against a stand-in only.
      overlays.default = final: _prev: { mvm = import ./modules/nixpkgs.nix { pkgs = final; }; };
      legacyPackages.${system} = {
        # all that guests are made of and that depends on none of them
        inherit (house) parts;
        mvm-nixpkgs = import ./modules/nixpkgs.nix { pkgs = nixpkgs.legacyPackages.${system}; };
      };
    };
}
