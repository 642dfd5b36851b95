# The pinned wheels, unzipped into one directory and compiled.
{ build, python, lock }:
let
  wheel = entry: build.pin { url = "mirror://pypi/${entry.filename}"; hash = entry.sha256; };
in
build.run {
  name = "mvm-wheels";
  wheels = map wheel (builtins.attrValues lock.packages);
  # Wheels whose files belong elsewhere than into site-packages (PEP 427, *.data) would need an installer: none has any.
  script = ''
    mkdir "$out"
    for wheel in $wheels; do unzip -q "$wheel" -d "$out"; done
    if ls -d "$out"/*.data 2>/dev/null; then echo "these wheels need an installer"; exit 1; fi
    ${python.compile "$out"}
  '';
}
