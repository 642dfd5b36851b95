# Evaluations and builds that would take everything: time, memory, processes, room.
{ build }:
let
  make = name: script: build.run { inherit name; script = "mkdir $out\necho attack-has-begun >&2\n${script}"; };
  steps = builtins.genList (x: x) 10000;
  # ten thousand steps to the power of `depth`
  nested = depth: if depth == 0 then 1 else builtins.foldl' (sum: _: sum + nested (depth - 1)) 0 steps;
  doubled = times: builtins.foldl' (s: _: s + s) "0123456789abcdef" (builtins.genList (x: x) times);
in
rec {
  # without end
  evaluation = builtins.trace "attack-has-begun" (nested 9);
  spin = make "spin" "while :; do :; done";
  silence = make "silence" "sleep 1000000";
  work = build.run { name = "work"; script = "exit 1"; inputs = [ spin silence ]; };
  forks = make "forks" "f() { f | f & }; f; while :; do :; done";
  # 4 TiB of nothing, which Nix reads to know their hash
  sparse = make "sparse" "truncate -s 4096G $out/rootfs; for file in kernel initrd manifest.json; do echo x > $out/$file; done";

  # without measure
  closure =
    let grown = x: let held = builtins.genList (y: y) 50000; in { inherit held; key = x.key + builtins.length held; };
    in builtins.trace "attack-has-begun" (builtins.genericClosure { startSet = [ { key = 0; } ]; operator = x: [ (grown x) ]; });
  # 128 GiB of text, bit by bit and at once
  string = builtins.trace "attack-has-begun" (builtins.stringLength (doubled 33));
  text = let s = doubled 20; t = "${s}${s}${s}${s}${s}${s}${s}${s}"; in builtins.trace "attack-has-begun" (
    builtins.stringLength "${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}${t}"
  );
  memory = make "memory" "tail /dev/zero";
  disk = make "disk" "dd if=/dev/zero of=$out/kernel bs=1M";
  files = make "a-million-files" ''
    for i in $(seq 1000); do mkdir $out/$i; cd $out/$i; seq 1000 | xargs touch; done
  '';
}
