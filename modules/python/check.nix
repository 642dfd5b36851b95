# Whether the hermetic mvm is whole and alone: it starts, all of it can be imported, and nothing of the system's is loaded.
{ build, python, site, mvm }:
build.run {
  name = "mvm-check";
  script = ''
    ${mvm}/bin/mvm --version > "$out"
    ${python.program} -I -S -B ${./check.py} ${mvm}/lib/mvm ${site} >> "$out"
  '';
}
