# mkGuest: options in, one directory out: kernel, initrd, rootfs and the manifest that describes them.
{ build, packages, tools, agent, kernel, defaults }:
let
  options = import ./options.nix;
  makeRootfs = import ./rootfs.nix { inherit build packages tools; };
  initrd = import ./initrd.nix { inherit build agent kernel; };

  check =
    given:
    let
      unknown = builtins.filter (n: !(options ? ${n})) (builtins.attrNames given);
      absent = builtins.filter (n: !(given ? ${n})) (builtins.attrNames options);
      wrong = builtins.filter (n: given ? ${n} && !options.${n}.is given.${n}) (builtins.attrNames options);
      problems =
        map (n: "there is no option '${n}'") unknown
        ++ map (n: "'${n}' is missing") absent
        ++ map (n: "'${n}' must ${options.${n}.must}") wrong
        ++ (if given.posture or "" == "sealed" && given.verbs or [ ] != [ ] then [ "a sealed guest grants no verbs" ] else [ ])
        ++ (if given.command or [ ] == [ ] && !builtins.elem "exec" (given.verbs or [ ]) then
          [ "a guest without a command must grant the verb \"exec\"" ] else [ ]);
    in
    if problems == [ ] then given else throw "mkGuest: ${builtins.concatStringsSep "; " problems}";
in
given:
let
  guest = check (
    defaults
    // (if given.posture or "" == "sealed" then { verbs = [ ]; } else { })
    // given
    // { environment = defaults.environment // given.environment or { }; }
  );
  roots = guest.packages packages;
  rootfs = makeRootfs {
    inherit roots;
    without = guest.without packages;
    inherit (guest) files links writable;
  };
  manifest = import ./manifest.nix { inherit guest rootfs kernel agent tools; };
in
build.run {
  name = "guest-${guest.name}";
  inherit initrd;
  inherit (kernel) vmlinux;
  rootfs = rootfs.image;
  manifest = builtins.toFile "manifest.json.in" manifest;
  # The manifest's digests are known only here: each @WORD@ in it is filled from the files themselves.
  script = ''
    mkdir "$out"
    cp "$vmlinux" "$out/kernel"
    cp "$initrd" "$out/initrd"
    cp "$rootfs/rootfs" "$out/rootfs"
    cp "$manifest" "$out/manifest.json"
    chmod u+w "$out/manifest.json"
    fill() { sed -i "s|@$1@|$2|g" "$out/manifest.json"; }
    for file in kernel initrd rootfs; do
      fill "$file.sha256" "$(sha256sum "$out/$file" | cut -d ' ' -f 1)"
      fill "$file.size" "$(stat -c %s "$out/$file")"
    done
    blocks=$(cat "$rootfs/blocks")
    fill verity.root "$(cat "$rootfs/root")"
    fill verity.dataBlocks "$blocks"
    fill verity.hashOffset $((blocks * 4096))
    fill verity.hashBlock $((blocks + 1))
    if grep -q '@[a-zA-Z0-9.]*@' "$out/manifest.json"; then echo "the manifest has gaps"; exit 1; fi
  '';
}
