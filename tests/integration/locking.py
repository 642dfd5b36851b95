"""Flakes to lock for tests: trees on disk, archives, and what the host's Nix makes of both."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mvmnix.builder.lockfile import graph, inputs
from mvmnix.digest import Digest
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.nar import nar_hash, nar_of_tree
from mvmnix.system.fs_tree import tree_of_directory


def archive(files: Mapping[str, str], when: int = 1_700_000_000) -> bytes:
    """A tar archive with these files in one directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in sorted(files.items()):
            member = tarfile.TarInfo(f"top/{name}")
            member.size, member.mtime, member.mode = len(text.encode()), when, 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@dataclass(frozen=True)
class HostNix:
    """The host's Nix with a cache and a store of its own; asks no registry and no substituter."""

    home: Path

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        """Run it, whatever becomes of it."""
        options = [("build-users-group", ""), ("substitute", "false"), ("flake-registry", ""), ("tarball-ttl", "0")]
        argv = ["nix", "--extra-experimental-features", "nix-command flakes", "--store", str(self.home / "store")]
        argv += [word for name, value in options for word in ("--option", name, value)]
        environment = os.environ | {"XDG_CACHE_HOME": str(self.home / "cache"), "HOME": str(self.home)}
        return subprocess.run([*argv, *arguments], capture_output=True, check=False, env=environment)

    def __call__(self, *arguments: str) -> bytes:
        """Run it; returns what it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def write(where: Path, files: Mapping[str, str]) -> None:
    """Put files into a directory."""
    for name, text in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)


def digest_of(where: Path) -> Digest:
    """The digest of a directory's archive."""
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return nar_hash(nar_of_tree(tree_of_directory(fd)))[0]
    finally:
        os.close(fd)


class HostQuestions:
    """Answers the questions of a lock with the host's Nix: the same expression that the builder VM is given."""

    def __init__(self, nix: HostNix, root: Path) -> None:
        self._nix = nix
        self._nix("store", "add", "--name", "source", str(root))
        self.root = graph.Tree({}, digest_of(root))
        self.asked: list[Attributes] = []

    def flake(self, place: graph.Place) -> inputs.Flake:
        expression = inputs.question(place.tree.store_path, place.tree.nar, place.directory)
        return inputs.parse(self._nix("eval", "--json", "--option", "pure-eval", "true", "--expr", expression), "test")

    def resolve(self, original: Attributes) -> graph.Tree:
        self.asked.append(original)
        spelled = "{ " + " ".join(f"{name} = {json.dumps(value)};" for name, value in original.items()) + " }"
        url = json.loads(self._nix("eval", "--json", "--expr", f"builtins.flakeRefToString {spelled}"))
        scheme = "file+" if original["type"] == "file" else ""  # which its text form leaves out
        found = json.loads(self._nix("flake", "prefetch", "--json", scheme + url.removeprefix(scheme)))
        locked = {name: value for name, value in found["locked"].items() if name != "__final"}
        return graph.Tree({**locked, "narHash": found["hash"]}, Digest.from_sri(found["hash"]))

    def bring(self, locked: Attributes) -> graph.Tree:
        return self.resolve(locked)
