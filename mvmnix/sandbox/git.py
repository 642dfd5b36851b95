"""The only maker of git's settings and of the repository directory that git is given; starts nothing.

git(1) runs in the sandbox alone, and no configuration but the one written here reaches it:

1. Each helper has git's settings in its environment (helper_command.py), so that one which starts git by itself, as
   Nix does, has them too. A user's, the system's and a command's own configuration is switched off or isn't there.
2. Of a repository on this host git gets `objects`, and what else the caller names of refs and index, at REPOSITORY.
   `config` there is written here; the repository's own, its hooks, `info`, `logs`, `commondir`, `shallow` and all else
   (gitrepository-layout(5)) stay outside.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

#: Where the repository directory is in the sandbox.
REPOSITORY: Final = "/repository/git"

#: git(1): no configuration of a user or the system, prompts, replaced objects (git-replace(1)), or downloads that were
#: not asked for.
_VARIABLES: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
#: git-config(1): no hooks, no helpers, no templates, no protocol but http, nothing in the background; files in the
#: sandbox have other owners than an index says; packs are mapped in portions, for memory is limited.
_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.logAllRefUpdates": "false",
    "core.askPass": "",
    "core.checkStat": "minimal",
    "core.packedGitWindowSize": "32m",
    "core.packedGitLimit": "256m",
    "credential.helper": "",
    "init.templateDir": "",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "true",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.bareRepository": "all",
}
#: git-config(1): names of sections and keys are case-insensitive, a value may stand in quotes.
_SHA256: Final = re.compile(rb'(?im)^[ \t]*(?:\[extensions\][ \t]*)?objectformat[ \t]*=[ \t]*"?sha256\b')


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Git's variables, with more settings among them (git-config(1), GIT_CONFIG_COUNT), which may be secret."""
    pairs = _SETTINGS | dict(settings or {})
    variables = {**_VARIABLES, "GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (name, value) in enumerate(pairs.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def is_sha256(config: bytes) -> bool:
    """Return whether a repository's `config` has SHA-256 as its object format: the one thing that is looked for in it.

    >>> is_sha256(b"[extensions] objectFormat = sha256"), is_sha256(b"[core] fsmonitor = sha256")
    (True, False)
    """
    return _SHA256.search(config) is not None


def repository_files(*, sha256: bool, reftable: bool = False) -> dict[str, bytes]:
    """The files by which git takes REPOSITORY for a repository, beside `objects`, HEAD, refs and an index."""
    extensions = {"objectFormat": "sha256"} if sha256 else {}
    extensions |= {"refStorage": "reftable"} if reftable else {}
    lines = ("[core]", "repositoryFormatVersion = 1", "[extensions]", *map(" = ".join, extensions.items()))
    return {f"{REPOSITORY}/config": "".join(f"{line}\n" for line in lines).encode()}


def object_name(kind: str, data: bytes, *, sha256: bool) -> str:
    """An object's name: the hash of `<kind> <size>`, a NUL and the bytes.

    >>> object_name("blob", b"", sha256=False)
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    digest = hashlib.sha256 if sha256 else hashlib.sha1
    return digest(object_header(kind, data) + data, usedforsecurity=False).hexdigest()


def object_header(kind: str, data: bytes) -> bytes:
    """The bytes that are hashed and stored before an object's own."""
    return b"%s %d\0" % (kind.encode(), len(data))
