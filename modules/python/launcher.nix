# Lines of a build script that compile launcher.c into `program`: static, it runs `arguments` with its own behind them.
# Both are words of the shell, so that they can name $out; the first argument is the absolute path of what to run.
{ tools }:
{ program, arguments }:
let
  words = builtins.concatStringsSep " " (map (word: "\"${word}\"") arguments);
in
''
  ${tools.c}
  mkdir -p "$(dirname "${program}")"
  cp ${./launcher.c} launcher.c
  compile launcher.c -D"LAUNCHER_ARGUMENTS=$(printf '"%s",' ${words})"
  link "${program}" launcher.o
''
