# Evaluations and builds that would take everything: time, memory, processes, room.
{ build }:
let
  make = name: script: build.run { inherit name; script = "mkdir $out\n${script}"; };
in
{
  evaluation = (builtins.foldl' (s: i: builtins.stringLength (toString (s + i))) 0 (builtins.genList (i: builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x) 100000)) 100000000));
  closure = builtins.genericClosure { startSet = [ { key = 0; } ]; operator = x: [ { key = x.key + 1; } ]; };
  string = builtins.stringLength (builtins.foldl' (s: _: s + s) "0123456789abcdef" (builtins.genList (x: x) 33));
  build = make "build" "while :; do :; done";
  silence = make "silence" "sleep 1000000";
  forks = make "forks" "f() { f | f & }; f; while :; do :; done";
  disk = make "disk" "dd if=/dev/zero of=$out/kernel bs=1M";
  files = make "files" "i=0; while :; do i=$((i + 1)); mkdir $out/$i; (cd $out/$i; seq 1 1000 | xargs touch); done";
  memory = make "memory" "tail /dev/zero";
  sparse = make "sparse" "truncate -s 4T $out/rootfs; for file in kernel initrd manifest.json; do echo x > $out/$file; done";
}
