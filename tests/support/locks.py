"""Nodes of flake.lock that are locked as they should be, and files with any nodes."""

import json
from typing import Any

NAR = "sha256-vUfIeBEfpbAfZ5zjgIkYk7eHBeVfCYVjLbWnMkseYnk="
REV = "643809054d65fdd466a63e3155b8c498cb483c04"
GITHUB: dict[str, Any] = {
    "type": "github",
    "owner": "NixOS",
    "repo": "nixpkgs",
    "rev": REV,
    "narHash": NAR,
    "lastModified": 1785692966,
}
GIT: dict[str, Any] = {"type": "git", "url": "https://h/r", "rev": REV, "narHash": NAR}
ASKED = {"type": "github", "owner": "NixOS", "repo": "nixpkgs"}


def lock_file(nodes: dict[str, Any], root: dict[str, Any] | None = None) -> bytes:
    inputs = {name: name for name in nodes} if root is None else root
    return json.dumps({"nodes": {"root": {"inputs": inputs}, **nodes}, "root": "root", "version": 7}).encode()
