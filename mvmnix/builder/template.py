"""Writes a new flake that builds at once and offline: its lock names this installation's own flake, copied beside it.

The copy is a relative input, which has no hash of its own: the root tree's covers it, and provenance names that. The
lock is written here as Nix would write it, from the installation's own; nothing is evaluated and nothing is fetched.
"""

import json
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from mvmnix.builder import bootstrap
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import nar
from mvmnix.formats.strict import parse_json
from mvmnix.system.output_files import HeldDirectory, OutputDirectory

#: The directory that holds the copy, and the name of the input.
HOUSE: Final = "mvmnix"
_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_SCRIPT: Final = b'''\
"""Say hello from inside the microVM."""

import platform

print(f"Hello from Python {platform.python_version()} in a verified microVM.")
'''


class Template(StrEnum):
    """What the new guest is: one command, a Python script, or an OCI image."""

    MINIMAL = "minimal"
    PYTHON = "python"
    OCI = "oci"


_DESCRIPTION: Final = {
    Template.MINIMAL: "A guest with one command, and a file for it to print",
    Template.PYTHON: "A guest with Python, and a script for it to run",
    Template.OCI: "A guest that an OCI image was made into",
}
_GUEST: Final = {
    Template.MINIMAL: """\
mvmnix.lib.mkGuest {
        name = "@name@";
        # With the profile's files, /etc/passwd among them, by which the guest's user has a name.
        files = mvmnix.lib.profiles.minimal.files // {
          "/etc/greeting".text = "Hello from a verified microVM.\\n";
        };
        command = [ "/bin/busybox" "cat" "/etc/greeting" ];
      };""",
    Template.PYTHON: """\
mvmnix.lib.mkGuest (
        mvmnix.lib.profiles.python
        // {
          name = "@name@";
          files = mvmnix.lib.profiles.python.files // {
            "/srv/main.py".source = ./main.py;
          };
          command = [ "/usr/bin/python3" "/srv/main.py" ];
        }
      );""",
    Template.OCI: """\
mvmnix.lib.mkOciGuest {
        name = "@name@";
        # Which image this is, by digest; written by mvm init --from.
        image = ./image.json;
      };""",
}
_FLAKE: Final = """\
{
  description = "@description@";

  inputs.mvmnix.url = "path:./mvmnix";

  outputs =
    { mvmnix, ... }:
    {
      packages.x86_64-linux.default = @guest@
    };
}
"""


def template_tree(template: Template, name: str, *, image: bytes | None = None) -> nar.Dir:
    """The tree of a new flake; `image` is the image.json of an OCI image, for that template and no other.

    `name` is what the user calls it; the guest's name is made of that.
    """
    if (template is Template.OCI) == (image is None):
        raise ValueError("an image is described for the template oci, and for that alone")
    own = bootstrap.parts(*bootstrap.FILES)
    lock = own[b"flake.lock"]
    if not isinstance(lock, nar.File):
        raise MvmnixError("this installation's flake.lock is not a file", hint="install mvm with its flake")
    text = _FLAKE.replace("@description@", _DESCRIPTION[template]).replace("@guest@", _GUEST[template])
    entries: dict[bytes, nar.Node] = {
        b"flake.nix": nar.File.of(text.replace("@name@", guest_name(name)).encode()),
        b"flake.lock": nar.File.of(lock_of(b"".join(lock.open()))),
        HOUSE.encode(): nar.Dir(own),
    }
    if template is Template.PYTHON:
        entries[b"main.py"] = nar.File.of(_SCRIPT)
    if image is not None:
        entries[b"image.json"] = nar.File.of(image)
    return nar.Dir(entries)


def guest_name(text: str) -> str:
    """A guest's name made of any text.

    >>> guest_name("my guest!"), guest_name("…")
    ('my-guest', 'guest')
    """
    return _NAME.sub("-", text).strip("-._")[:64].rstrip("-._") or "guest"


def lock_of(own_lock: bytes) -> bytes:
    """The lock of a flake whose one input is a copy of the flake with this lock, as Nix would write it."""
    value: Any = parse_json(own_lock)
    nodes: dict[str, Any] = {name: _moved(node) for name, node in value["nodes"].items() if name != value["root"]}
    if HOUSE in nodes or "root" in nodes:
        raise MvmnixError("this installation's flake.lock has nodes of unexpected names", hint="install mvm anew")
    path = {"path": f"./{HOUSE}", "type": "path"}
    top = {"locked": path, "original": path, "parent": []}
    inputs = _moved(value["nodes"][value["root"]]).get("inputs", {})
    nodes[HOUSE] = top | ({"inputs": inputs} if inputs else {})
    nodes["root"] = {"inputs": {HOUSE: HOUSE}}
    return json.dumps({"nodes": nodes, "root": "root", "version": 7}, indent=2, sort_keys=True).encode() + b"\n"


def _moved(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node whose paths of input names, which begin at the root, begin one input further down."""
    moved = dict(node)
    if "inputs" in moved:
        moved["inputs"] = {name: [HOUSE, *to] if isinstance(to, list) else to for name, to in node["inputs"].items()}
    if "parent" in moved:
        moved["parent"] = [HOUSE, *node["parent"]]
    return moved


def write_template(tree: nar.Dir, target: OutputDirectory) -> None:
    """Put a tree into a directory that is empty, but for a .git, or not there yet. Raises UsageError for another."""
    with target.open() as place:
        there = sorted({*os.listdir(place.fd)} - {".git"})  # noqa: PTH208 - a descriptor
        if there:
            shown = ", ".join(there[:5]) + (" …" if len(there) > 5 else "")
            raise UsageError(
                f"{target.path} is not empty: {shown}", hint="name a new directory; nothing is overwritten"
            )
        _write(tree, place)


def _write(tree: nar.Dir, place: HeldDirectory) -> None:
    for entry, node in tree.entries.items():
        name = os.fsdecode(entry)
        match node:
            case nar.Dir():
                with place.directory(name) as inner:
                    _write(node, inner)
            case nar.File():
                with place.file(name, 0o777 if node.executable else 0o666) as file:
                    file.writelines(node.open())
            case nar.Symlink():
                os.symlink(os.fsdecode(node.target), name, dir_fd=place.fd)
