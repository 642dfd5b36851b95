# The root file system: an erofs image of packages and files, and behind it its dm-verity hash tree.
{ build, packages, tools }:
{ roots, without, files, links, writable }:
let
  closure = packages.closure { inherit roots without; };

  quote = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";
  lines = f: attrs: builtins.concatStringsSep "\n" (map f (builtins.attrNames attrs));

  placeFile =
    path:
    let
      file = files.${path};
      mode = if file.executable or false then "0755" else "0644";
      source = if file ? text then builtins.toFile (build.storeName (baseNameOf path)) file.text else "${file.source}";
    in
    "place ${mode} ${source} root${quote path}";
  placeLink = path: ''parent root${quote path}; ln -sfn ${quote links.${path}} root${quote path}'';

  # Fixed, so that the same files give the same bits; neither is a secret, and the root hash covers both.
  uuid = "00000000-0000-0000-0000-000000000000";
  salt = "00000000000000000000000000000000"; # veritysetup reads "-" as none; a fixed one keeps the format's usual shape
in
{
  inherit closure uuid salt;

  # $out/rootfs, and beside it what veritysetup said: root (hexadecimal) and blocks (of data).
  image = build.run {
    name = "rootfs";
    trees = map (p: p.tree) closure;
    script = ''
      # a package's directories come read-only out of the store; the next package must be able to add to them
      add() {
        cp -a "$1"/. root/
        (cd "$1"; find . -type d -print0) | (cd root; xargs -0 chmod u+w)
      }
      parent() { mkdir -p "$(dirname "$1")"; }
      place() { parent "$3"; rm -rf "$3"; cp "$2" "$3"; chmod "$1" "$3"; }

      # usrmerge by hand, since base-files' maintainer script does not run
      for dir in bin sbin lib lib64; do
        mkdir -p "root/usr/$dir"
        ln -s "usr/$dir" "root/$dir"
      done
      for tree in $trees; do add "$tree"; done
      rm -rf root/usr/share/doc root/usr/share/man root/usr/share/locale root/usr/share/bug root/usr/share/lintian
      mkdir -p root/dev root/proc root/sys root/run root/tmp root/etc
      ${builtins.concatStringsSep "\n" (map (path: "mkdir -p root${quote path}") writable)}
      ${lines placeFile files}
      ${lines placeLink links}

      mkdir "$out"
      ${tools.mkfs-erofs} --quiet -T0 -U ${uuid} --all-root -x-1 -zlz4 "$out/rootfs" root
      size=$(stat -c %s "$out/rootfs")
      truncate -s $(( (size + 4095) / 4096 * 4096 )) "$out/rootfs"
      blocks=$(( $(stat -c %s "$out/rootfs") / 4096 ))
      ${tools.veritysetup} format --hash=sha256 --data-block-size=4096 --hash-block-size=4096 --salt=${salt} \
        --uuid=${uuid} --data-blocks=$blocks --hash-offset=$((blocks * 4096)) "$out/rootfs" "$out/rootfs" > said
      sed -n 's/^Root hash:[[:space:]]*//p' said > "$out/root"
      echo "$blocks" > "$out/blocks"
    '';
  };
}
