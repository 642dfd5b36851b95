# How things are built without nixpkgs: pinned files, and derivations whose only shell is a pinned busybox.
{ system, lock }:
let
  # What the store's names forbid becomes "_"; mvmnix/model.py: store_name does the same.
  storeName =
    text:
    builtins.concatStringsSep "" (
      map (part: if builtins.isList part then "_" else part) (builtins.split "[^0-9a-zA-Z+._?=-]" text)
    );

  # A file that must be in the store already, put there by its hash. Building it only says how to bring it.
  pin =
    { url, name ? storeName (baseNameOf url), mode ? "flat", hash }:
    derivation {
      inherit system;
      name = storeName name;
      urls = [ url ];
      outputHashMode = mode;
      outputHashAlgo = if mode == "flat" then "sha256" else null;
      outputHash = hash;
      preferLocalBuild = true;
      builder = "/bin/sh";
      args = [ "-c" "echo \"${name} is pinned but not in the store. Run: mvm pin fetch\" >&2; exit 1" ];
    };

  # The one program that nothing builds: bin/busybox, static, cut out of its package by whoever fetched it.
  seed = pin {
    name = "busybox";
    url = "mirror://debian/${lock.packages.${lock.seed.package}.filename}#${lock.seed.path}";
    mode = "recursive";
    hash = lock.seed.narHash;
  };

  # A derivation from a busybox shell script; every failure ends the build.
  runner =
    { busybox, path }:
    { name, script, ... }@args:
    derivation (
      {
        inherit system;
        name = storeName name;
        builder = "${busybox}/bin/busybox";
        args = [ "sh" "-euc" "set -o pipefail; export LC_ALL=C TZ=UTC; umask 022\n${script}" ];
        PATH = path;
      }
      // builtins.removeAttrs args [ "name" "script" ]
    );
in
{
  inherit pin storeName;
  # The seed finds its applets without PATH.
  run = runner { busybox = seed; path = "/no-such-directory"; };
  # The same by another busybox, which may have been built to look for its applets in PATH.
  runBy = busybox: runner { inherit busybox; path = "${busybox}/bin"; };
}
