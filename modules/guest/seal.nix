# Lines of a build script that put a dm-verity hash tree behind the file system in $out/rootfs.
{ tools }:
let
  # Fixed, so that the same files give the same bits; neither is a secret, and the root hash covers both.
  uuid = "00000000-0000-0000-0000-000000000000";
  salt = "00000000000000000000000000000000"; # veritysetup reads "-" as none; a fixed one keeps the format's usual shape
in
{
  inherit uuid salt;

  # Beside it, what veritysetup said: root (hexadecimal) and blocks (of data).
  script = ''
    size=$(stat -c %s "$out/rootfs")
    truncate -s $(( (size + 4095) / 4096 * 4096 )) "$out/rootfs"
    blocks=$(( $(stat -c %s "$out/rootfs") / 4096 ))
    ${tools.veritysetup} format --hash=sha256 --data-block-size=4096 --hash-block-size=4096 --salt=${salt} \
      --uuid=${uuid} --data-blocks=$blocks --hash-offset=$((blocks * 4096)) "$out/rootfs" "$out/rootfs" > said
    sed -n 's/^Root hash:[[:space:]]*//p' said > "$out/root"
    echo "$blocks" > "$out/blocks"
  '';
}
