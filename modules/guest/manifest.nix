# manifest.json, the one contract between this side and Python's (mvmnix/manifest.schema.json); digests come later.
{ guest, rootfs, kernel, agent, tools }:
let
  # Numbers that are not known yet: a quoted word in JSON now, a bare number once it is filled in.
  bare = words: text:
    builtins.replaceStrings (map (w: "\"@${w}@\"") words) (map (w: "@${w}@") words) text;
  file = name: { file = name; sha256 = "@${name}.sha256@"; size = "@${name}.size@"; };

  # What every guest boots with, and why: docs/launch.md.
  commandLine = builtins.concatStringsSep " " (
    [
      "console=ttyS0" "quiet" "reboot=t" "panic=-1" "no_timer_check" "cryptomgr.notests=1"
      "initcall_blacklist=jent_mod_init"
      "mvm.verity=@verity.root@:${rootfs.salt}:@verity.dataBlocks@:@verity.hashBlock@"
    ]
    ++ guest.kernelParameters
  );
in
bare
  [ "kernel.size" "initrd.size" "rootfs.size" "verity.dataBlocks" "verity.hashOffset" ]
  (builtins.toJSON {
    version = 1;
    system = "x86_64-linux";
    inherit (guest) name posture verbs writable vcpus memoryMiB scratchMiB;
    workload = { inherit (guest) command environment directory user; };
    artifacts = { kernel = file "kernel"; initrd = file "initrd"; rootfs = file "rootfs"; };
    verity = {
      algorithm = "sha256";
      blockSize = 4096;
      root = "@verity.root@";
      dataBlocks = "@verity.dataBlocks@";
      hashOffset = "@verity.hashOffset@";
      inherit (rootfs) salt uuid;
    };
    kernelCommandLine = commandLine;
    sources = map (p: p.source) (rootfs.closure ++ [ kernel.package ]);
  })
