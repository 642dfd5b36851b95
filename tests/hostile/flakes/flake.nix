# A flake that means no good, with settings of its own for whoever evaluates it.
{
  nixConfig = {
    sandbox = false;
    allow-import-from-derivation = true;
    extra-substituters = [ "https://cache.example" ];
    builders = "ssh://host.example";
  };
  inputs.mvmnix.url = "path:..";
  outputs =
    { mvmnix, ... }:
    let
      system = "x86_64-linux";
      lock = builtins.fromJSON (builtins.readFile ./lock.json);
      build = import ./build.nix { inherit system lock; };
      hello = mvmnix.lib.mkGuest { name = "hello"; };
    in
    {
      packages.${system} = {
        probing = import ./probing.nix { inherit system build; };
        outputs = import ./outputs.nix { inherit build hello; };
        endless = import ./endless.nix { inherit build; };
        inherit hello;
      };
    };
}
