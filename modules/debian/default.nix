# The embedded package set: each Debian pin as { name, src, tree, depends }, and the closure of any subset.
{ build, lock }:
let
  package = name: entry: rec {
    inherit name;
    inherit (entry) version depends;
    # what provenance and manifest call this source
    source = {
      uri = "mirror://debian/${entry.filename}";
      name = build.storeName (baseNameOf entry.filename);
      sha256 = entry.sha256;
    };
    src = build.pin {
      url = source.uri;
      hash = entry.sha256;
    };
    # the package unpacked; maintainer scripts never run
    tree = build.run {
      name = "${name}-${entry.version}";
      inherit src;
      script = ''dpkg-deb -x "$src" "$out"'';
    };
  };
  set = builtins.mapAttrs package lock.packages;

  missing = from: name: throw "${from} depends on ${name}, which is not pinned. Run: mvm pin debian ${name}";

  # Packages with all they depend on, sorted by name; `without` cuts branches that the guest does not need.
  closure =
    { roots, without ? [ ] }:
    let
      cut = map (p: p.name) without;
      nodes = builtins.genericClosure {
        startSet = map (p: { key = p.name; from = p.name; }) roots;
        operator =
          { key, from }:
          map (name: { key = name; from = key; }) (
            builtins.filter (name: !builtins.elem name cut) (set.${key} or (missing from key)).depends
          );
      };
      names = builtins.sort builtins.lessThan (map (n: n.key) nodes);
    in
    map (name: set.${name}) names;
in
set // { inherit closure; }
