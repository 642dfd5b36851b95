# The root file system: an erofs image of packages and files, and behind it its dm-verity hash tree.
{ build, packages, tools }:
{ roots, without, files, links, writable }:
let
  seal = import ./seal.nix { inherit tools; };
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
in
{
  inherit (seal) uuid salt;
  sources = map (p: p.source) closure;

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
      ${tools.mkfs-erofs} --quiet -T0 -U ${seal.uuid} --all-root -x-1 -zlz4 "$out/rootfs" root
      ${seal.script}
    '';
  };
}
