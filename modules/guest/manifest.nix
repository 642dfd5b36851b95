# manifest.json, the one contract between this side and Python's (mvmnix/formats/manifest.schema.json); digests come later.
{ guest, rootfs, kernel }:
let
  # Numbers that are not known yet: a quoted word in JSON now, a bare number once it is filled in.
  bare = words: text:
    builtins.replaceStrings (map (w: "\"@${w}@\"") words) (map (w: "@${w}@") words) text;
  file = name: { file = name; sha256 = "@${name}.sha256@"; size = "@${name}.size@"; };

  # What others wrote may look like one of these words; JSON has a second spelling for the sign.
  literal = value: builtins.replaceStrings [ "@" ] [ "\\u0040" ] (builtins.toJSON value);
  # one object of the texts of two
  join = a: b: "${builtins.substring 0 (builtins.stringLength a - 1) a},${builtins.substring 1 (-1) b}";

  # What every guest boots with, and why: docs/reference/launch.md.
  commandLine = builtins.concatStringsSep " " (
    [
      "console=ttyS0" "quiet" "reboot=t" "panic=-1" "no_timer_check" "noreplace-smp" "cryptomgr.notests=1"
      "initcall_blacklist=${builtins.concatStringsSep "," kernel.skippedInitcalls}"
      "mvm.verity=@verity.root@:${rootfs.salt}:@verity.dataBlocks@:@verity.hashBlock@"
    ]
    ++ guest.kernelParameters
  );

  workload = join (literal { inherit (guest) command environment directory; }) (
    bare [ "user.uid" "user.gid" ] (builtins.toJSON { inherit (guest) user; })
  );
  filled = bare [ "kernel.size" "initrd.size" "rootfs.size" "verity.dataBlocks" "verity.hashOffset" ] (
    builtins.toJSON {
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
    }
  );
  known = literal ({
    version = 1;
    system = "x86_64-linux";
    inherit (guest) name posture verbs writable vcpus memoryMiB scratchMiB;
    sources = rootfs.sources ++ kernel.sources;
  } // (if guest.systemCalls == "default" then { } else { inherit (guest) systemCalls; })
    // (if guest.network then { network = true; } else { }));
in
join (join known filled) "{\"workload\":${workload}}"
