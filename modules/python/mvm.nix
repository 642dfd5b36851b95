# packages.mvm: this repository's Python on the pinned interpreter and wheels, and beside it the flake it builds from.
{ house }:
let
  inherit (house) build packages tools;
  sources = import ./sources.nix;
  launcher = import ./launcher.nix { inherit tools; };
  python = import ./python.nix { inherit build packages launcher; };
  site = import ./site.nix {
    inherit build python;
    lock = builtins.fromJSON (builtins.readFile ./lock.json);
  };

  mvm = build.run {
    name = "mvm-${sources.project.version}";
    inherit (sources) code flake;
    # -I: no variable, no user's packages, no working directory; -S: no site.py, whose paths are the system's;
    # -B: root could write into the store. The link gives the process its name, which would be the dynamic linker's.
    script = ''
      home="$out/lib/mvm"
      mkdir -p "$home" "$out/libexec"
      cp -r "$code"/. "$flake"/. "$home/"
      chmod -R u+w "$home"
      cat > "$home/start.py" <<END
      import sys

      sys.path += ["$home", "${site}"]
      from mvmnix.cli.main import main

      main()
      END
      ${python.compile "$home/mvmnix"}
      ln -s ${python.loader} "$out/libexec/mvm"
      ${launcher {
        program = "$out/bin/mvm";
        arguments = [ "$out/libexec/mvm" ] ++ python.arguments ++ [ "-I" "-S" "-B" "$out/lib/mvm/start.py" ];
      }}
    '';
  };
in
mvm // { check = import ./check.nix { inherit build python site mvm; }; }
