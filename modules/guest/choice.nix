# What must be true of the packages and parts that a guest chooses, from the embedded set or from nixpkgs: its problems.
{ packages }:
{ given, right }:
let
  inherit (builtins) all attrNames elem filter isAttrs isList;
  when = condition: text: if condition then [ text ] else [ ];
  isPackage = p: isAttrs p && p.type or "" == "derivation";

  chosen = given.packages (if given.pkgs == null then packages else given.pkgs);
  packageProblems =
    if !isList chosen then
      [ "'packages' must give a list" ]
    else if given.pkgs == null then
      when (!all (p: isAttrs p && p ? tree) chosen) "'packages' must give packages of the embedded set; nixpkgs' take 'pkgs'"
    else
      when (!all isPackage chosen) "'packages' must give packages of 'pkgs'"
      ++ when (right [ "without" ] && given.without given.pkgs != [ ]) "'without' is for the embedded set; a store closure is whole";

  parts = given.parts given.pkgs;
  replaceable = [ "kernel" "busybox" "erofs-utils" "cryptsetup" ];
  partProblems =
    if !isAttrs parts then
      [ "'parts' must give a set" ]
    else
      map (n: "there is no part '${n}'") (filter (n: !elem n replaceable) (attrNames parts))
      ++ map (n: "part '${n}' must be a package") (filter (n: parts ? ${n} && !isPackage parts.${n}) replaceable)
      ++ when (isPackage (parts.kernel or null) && !(parts.kernel ? modules)) "part 'kernel' must have an output 'modules'";
in
(if right [ "pkgs" "packages" ] then packageProblems else [ ])
++ (if right [ "pkgs" "parts" ] && given.pkgs != null then partProblems else [ ])
