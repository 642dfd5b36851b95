# The parts that a guest of nixpkgs' packages is made with: mvm's own, save those that it replaces by packages.
{ build, tools, kernel, given }:
let
  programs = p: "${p.bin or p}/bin";
  own = {
    build = if given ? busybox then build // { run = build.runBy given.busybox; } else build;
    tools =
      tools
      // (if given ? erofs-utils then { mkfs-erofs = "${programs given.erofs-utils}/mkfs.erofs"; } else { })
      // (if given ? cryptsetup then { veritysetup = "${programs given.cryptsetup}/veritysetup"; } else { });
  };
in
own
// {
  kernel =
    if given ? kernel then
      import ./own-kernel.nix {
        inherit (own) build tools;
        inherit kernel;
        package = given.kernel;
      }
    else
      kernel;
}
