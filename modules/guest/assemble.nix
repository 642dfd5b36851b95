# The one directory that a guest is: kernel, initrd, rootfs and the manifest that describes them.
{ build, agent, kernel }:
{ guest, rootfs }:
let
  initrd = import ./initrd.nix { inherit build agent kernel; inherit (guest) network; };
in
build.run {
  name = "guest-${guest.name}";
  inherit initrd;
  inherit (kernel) vmlinux;
  rootfs = rootfs.image;
  manifest = builtins.toFile "manifest.json.in" (import ./manifest.nix { inherit guest rootfs kernel; });
  # The manifest's digests are known only here: each @WORD@ in it is filled from the files themselves. An image that
  # names its user by a word learns the numbers in its own files ($rootfs/user).
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
    if [ -e "$rootfs/user" ]; then
      fill user.uid "$(cut -d ' ' -f 1 "$rootfs/user")"
      fill user.gid "$(cut -d ' ' -f 2 "$rootfs/user")"
    fi
    if grep -q '@[a-zA-Z0-9.]*@' "$out/manifest.json"; then echo "the manifest has gaps"; exit 1; fi
  '';
}
