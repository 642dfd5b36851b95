# mkOciGuest: an OCI image, described by mvm's image.json, as a guest; its layers are applied in memory and never unpacked.
{ build, packages, tools, agent, kernel, defaults }:
let
  options = import ../guest/options.nix;
  # the image itself says what is in the guest
  foreign = [ "packages" "without" "files" "links" "pkgs" "parts" ];
  makeRootfs = import ./rootfs.nix { inherit build packages tools; };
  assemble = import ../guest/assemble.nix { inherit build agent kernel; };
  check = import ../guest/check.nix {
    maker = "mkOciGuest";
    # the image says what is in the guest; the agent looks for a command without a slash along PATH, as runtimes do
    options = builtins.removeAttrs options [ "pkgs" "parts" "packages" "without" "files" "links" ] // {
      command = { must = "be a list of strings"; is = v: builtins.isList v && builtins.all builtins.isString v; };
    };
  };
  usual = builtins.removeAttrs defaults [ "pkgs" "parts" "packages" "without" "files" "links" ];

  # what a runtime sets when the image does not; /tmp is where the workload may write
  environment = {
    PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    HOME = "/tmp";
  };
in
{ image, ... }@given:
let
  described = builtins.fromJSON (builtins.readFile image);
  chosen = builtins.removeAttrs given [ "image" ];
  guest = check (
    usual
    // {
      inherit (described) name command directory;
      writable = usual.writable ++ described.volumes;
      # Most images are programs for a network, and who pulls one has no flake to say so in. Whether there is one, the plan
      # says; the driver is loaded then only.
      network = true;
      memoryMiB = 512;
      scratchMiB = 64;
    }
    // (if given.posture or "" == "sealed" then { verbs = [ ]; } else { })
    // chosen
    // { environment = environment // described.environment // given.environment or { }; }
  );
  # Numbers that only the image's own /etc/passwd knows, unless the flake gives some.
  user = given.user or { uid = "@user.uid@"; gid = "@user.gid@"; };
in
assemble {
  guest = guest // { inherit user; };
  rootfs = makeRootfs { inherit described; inherit (guest) writable network; };
}
