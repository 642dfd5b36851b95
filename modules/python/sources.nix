# What of this repository a package of mvm is made from: nothing that a working tree has besides, no compiled Python.
let
  root = toString ../..;
  below = file: builtins.substring (builtins.stringLength root + 1) (-1) file;
  top = file: builtins.head (builtins.split "/" (below file));
  compiled = file: baseNameOf file == "__pycache__";
  isCode = file: builtins.match ".*\\.(pyi?|html|css|schema\\.json|toml)|py\\.typed" (baseNameOf file) != null;
  code = file: type: !compiled file && (type == "directory" || type == "regular" && isCode file);
  part = name: filter: builtins.path { inherit name filter; path = ../..; };
in
{
  inherit (builtins.fromTOML (builtins.readFile ../../pyproject.toml)) project;

  # the Python package with the data that it reads, in mvmnix/
  code = part "mvm-code" (file: type: top file == "mvmnix" && code file type);

  # the same as a project to build (PEP 517)
  project-tree = part "mvm-project" (
    file: type: builtins.elem (top file) [ "pyproject.toml" "README.md" ] || top file == "mvmnix" && code file type
  );

  # the flake, which stands beside the package wherever mvm is installed: mvmnix/builder/bootstrap.py builds from it
  flake = part "mvm-flake" (
    file: _: !compiled file && builtins.elem (top file) [ "flake.nix" "flake.lock" "modules" "profiles" ]
  );
}
