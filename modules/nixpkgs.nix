# Preview: mvm from nixpkgs' own Python and libraries, for those who have nixpkgs. It has run nowhere yet, so far it has
# only been evaluated against a stand-in (tests/integration/test_flake.py). The hermetic one is packages.mvm.
{ pkgs }:
let
  sources = import ./python/sources.nix;
  python = pkgs.python3Packages;
  nameOf = requirement: builtins.head (builtins.match "([A-Za-z0-9._-]+).*" requirement);
in
python.buildPythonApplication {
  pname = "mvm";
  inherit (sources.project) version;
  pyproject = true;
  src = sources.project-tree;
  build-system = [ python.setuptools ];
  # what pyproject.toml asks for, under the same names
  dependencies = map (requirement: python.${nameOf requirement}) sources.project.dependencies;
  # mvmnix/system/own_flake.py looks for the flake beside the package
  postInstall = ''cp -r ${sources.flake}/. "$out/${python.python.sitePackages}/"'';
  pythonImportsCheck = [ "mvmnix.cli.main" ];
  meta = {
    inherit (sources.project) description;
    mainProgram = "mvm";
    platforms = [ "x86_64-linux" ];
  };
}
