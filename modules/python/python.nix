# Debian's Python as one directory that needs nothing else: interpreter, libraries, compiled standard library.
{ build, packages, launcher }:
let
  # Of the closure, what the interpreter and its extension modules load or read; the rest configures a Debian system.
  # libseccomp is for mvm, which looks for it beside its Python (mvmnix/sandbox/seccomp.py), libstdc++ for the wheel of RE2.
  closure = packages.closure {
    roots = [ packages."python3.13" packages.libseccomp2 packages."libstdc++6" ];
    without = [
      packages.media-types
      packages.netbase
      packages.openssl-provider-legacy
      packages.readline-common
      packages.tzdata
    ];
  };

  # What the dynamic linker is told to run the interpreter in `home`: its own libraries, and no cache of the system's.
  # Python finds its standard library beside argv[0], since PYTHONHOME doesn't count in isolated mode.
  loader = home: "${home}/lib/ld-linux-x86-64.so.2";
  arguments = home: [
    "--inhibit-cache" "--argv0" "${home}/bin/python3.13" "--library-path" "${home}/lib" "${home}/libexec/python3.13"
  ];

  python = build.run {
    name = "python-${packages."python3.13-minimal".version}";
    trees = map (p: p.tree) closure;
    script = ''
      mkdir -p "$out/bin" "$out/lib" "$out/libexec"
      for tree in $trees; do
        if [ -d "$tree/usr/lib/x86_64-linux-gnu" ]; then
          find "$tree/usr/lib/x86_64-linux-gnu" -maxdepth 1 -name '*.so*' -exec cp -P {} "$out/lib/" \;
        fi
        if [ -d "$tree/usr/lib/python3.13" ]; then
          cp -a "$tree/usr/lib/python3.13" "$out/lib/"
          find "$out/lib/python3.13" -type d -exec chmod u+w {} +
        fi
        if [ -e "$tree/usr/bin/python3.13" ]; then cp "$tree/usr/bin/python3.13" "$out/libexec/"; fi
      done
      rm "$out/lib/python3.13/sitecustomize.py" # a link into the system's /etc
      ${launcher { program = "$out/bin/python3.13"; arguments = [ (loader "$out") ] ++ arguments "$out"; }}
      ${compile "$out" "$out/lib/python3.13"}
    '';
  };

  # Tied to nothing (PEP 552, unchecked): sources in the store don't change, and their times say nothing.
  compile = home: directory:
    ''"${home}/bin/python3.13" -I -S -B -m compileall -q --invalidation-mode unchecked-hash "${directory}"'';
in
{
  loader = loader python;
  arguments = arguments python;
  program = "${python}/bin/python3.13";
  compile = compile python;
}
