# mkGuest: options in, one directory out: kernel, initrd, rootfs and the manifest that describes them.
{ build, packages, tools, agent, kernel, defaults }:
let
  makeRootfs = import ./rootfs.nix { inherit build packages tools; };
  check = import ./check.nix { maker = "mkGuest"; options = import ./options.nix; };
  assemble = import ./assemble.nix { inherit build agent kernel; };
in
given:
let
  guest = check (
    defaults
    // (if given.posture or "" == "sealed" then { verbs = [ ]; } else { })
    // given
    // { environment = defaults.environment // given.environment or { }; }
  );
in
assemble {
  inherit guest;
  rootfs = makeRootfs {
    roots = guest.packages packages;
    without = guest.without packages;
    inherit (guest) files links writable;
  };
}
