"""Guests of nixpkgs' packages where there is no nixpkgs: a stand-in offers its interface."""

import json
import shutil
from pathlib import Path

STANDIN = "tests/fixtures/standin-nixpkgs"

#: A guest that has no package, but names some, and takes every part that it can from the stand-in.
EVERYTHING = """
{
  inherit pkgs;
  name = "everything";
  packages = _: [ ];
  parts = p: { inherit (p) erofs-utils cryptsetup; inherit (p.linuxPackages) kernel; inherit (p.pkgsStatic) busybox; };
  command = [ (nixpkgs.lib.getExe pkgs.hello) ];
  environment.LOCALES = "${pkgs.locales}/share/locales";
  files."/etc/motd".text = "see ${pkgs.motd}/share/motd\\n";
  links."/bin/sh" = "${pkgs.pkgsStatic.busybox}/bin/sh";
}
"""


def put_guest(tree: Path, guest: str) -> str:
    """Write a flake with this guest and its lock into a copy of the repository; returns the flake's directory."""
    directory = tree / "tests/fixtures/guest"
    directory.mkdir()
    (directory / "flake.nix").write_text(
        f"""
        {{
          inputs.mvmnix.url = "path:../../..";
          inputs.nixpkgs.url = "path:../standin-nixpkgs";
          inputs.mvmnix.inputs.nixpkgs.follows = "nixpkgs";
          outputs = {{ mvmnix, nixpkgs, ... }}:
            let
              pkgs = nixpkgs.legacyPackages.x86_64-linux;
            in
            {{ packages.x86_64-linux.default = mvmnix.lib.mkGuest {guest}; }};
        }}
        """
    )
    document = json.loads((tree / "examples/nixpkgs/flake.lock").read_text())
    for name, path in (("mvmnix", "../../.."), ("nixpkgs", "../standin-nixpkgs")):
        reference = {"type": "path", "path": path}
        document["nodes"][name] |= {"locked": reference, "original": reference, "parent": []}
    (directory / "flake.lock").write_text(json.dumps(document))
    return "tests/fixtures/guest"


def copy_of(tree: Path, target: Path) -> Path:
    """A copy of a committed tree that may change, without its history."""
    return Path(shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns(".git")))
