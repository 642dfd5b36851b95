# Holds what a guest is given against its options; ends the evaluation with every problem at once.
{ maker, options, more ? _: [ ] }:
given:
let
  unknown = builtins.filter (n: !(options ? ${n})) (builtins.attrNames given);
  absent = builtins.filter (n: !(given ? ${n})) (builtins.attrNames options);
  wrong = builtins.filter (n: given ? ${n} && !options.${n}.is given.${n}) (builtins.attrNames options);
  # what can only be asked of options that are right by themselves
  right = builtins.all (n: !builtins.elem n (absent ++ wrong));
  problems =
    map (n: "there is no option '${n}'") unknown
    ++ map (n: "'${n}' is missing") absent
    ++ map (n: "'${n}' must ${options.${n}.must}") wrong
    ++ (if given.posture or "" == "sealed" && given.verbs or [ ] != [ ] then [ "a sealed guest grants no verbs" ] else [ ])
    ++ (if given.command or [ ] == [ ] && !builtins.elem "exec" (given.verbs or [ ]) then
      [ "a guest without a command must grant the verb \"exec\"" ] else [ ])
    ++ more { inherit given right; };
in
if problems == [ ] then given else throw "${maker}: ${builtins.concatStringsSep "; " problems}"
