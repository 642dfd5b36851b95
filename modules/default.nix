# The Nix side of the house, wired: the shell to build with, the package set, and what makes guests of it and of OCI images.
{ system }:
let
  lock = builtins.fromJSON (builtins.readFile ./debian/lock.json);
  build = import ./build.nix { inherit system lock; };
  packages = import ./debian { inherit build lock; };
  tools = import ./debian/tools.nix { inherit packages; };
  agent = import ./agent { inherit build tools; };
  kernel = import ./guest/kernel.nix { inherit build packages tools; };
  initrd = import ./guest/initrd.nix { inherit build agent kernel; };
  initrd-network = import ./guest/initrd.nix { inherit build agent kernel; network = true; };
in
rec {
  inherit build packages tools;
  mkGuest = import ./guest {
    inherit build packages tools agent kernel;
    defaults = profiles.minimal;
  };
  mkOciGuest = import ./oci {
    inherit build packages tools agent kernel;
    defaults = profiles.minimal;
  };
  profiles = import ../profiles;

  # What guests are made of and what depends on none of them, by name: each embedded package unpacked, and mvm's own.
  parts = builtins.mapAttrs (name: _: packages.${name}.tree) lock.packages // {
    inherit agent initrd initrd-network;
    inherit (kernel) vmlinux;
    kernel-modules = kernel.loadable;
    network-modules = kernel.networking;
  };
}
