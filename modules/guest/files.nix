# The directories, files and links that a guest's options ask for, as shell lines that place them in `root`.
{ build, write, files, links, writable }:
let
  quote = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";
  lines = f: attrs: builtins.concatStringsSep "\n" (map f (builtins.attrNames attrs));

  contents =
    path:
    let
      file = files.${path};
    in
    if file ? text then "${write (build.storeName (baseNameOf path)) file.text}" else "${file.source}";
  mode = path: if files.${path}.executable or false then "0755" else "0644";
in
{
  # each file's contents, quoted for a shell
  sources = map (path: quote (contents path)) (builtins.attrNames files);

  script = ''
    ${builtins.concatStringsSep "\n" (map (path: "mkdir -p root${quote path}") writable)}
    parent() { mkdir -p "$(dirname "$1")"; }
    place() { parent "$3"; rm -rf "$3"; cp "$2" "$3"; chmod "$1" "$3"; }
    ${lines (path: "place ${mode path} ${quote (contents path)} root${quote path}") files}
    ${lines (path: "parent root${quote path}; ln -sfn ${quote links.${path}} root${quote path}") links}
  '';
}
