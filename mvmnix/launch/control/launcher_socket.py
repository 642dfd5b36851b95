"""Names a launcher by all that it has in common with the callers that it serves: another caller finds another one.

The key is a digest of the process's identity (system/process_identity.py), of mvm's own directories by device and
inode, of the variables that a launcher keeps, and of the files of its code: a checkout changes without a new version.
"""

import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.formats.strict import canonical
from mvmnix.launch.control.codec import VERSION
from mvmnix.system import private_sockets
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process_identity import ProcessIdentity
from mvmnix.system.roots import Roots

#: The directory of sockets and locks, in the state directory.
DIRECTORY: Final = "launchers"
#: Variables that a launcher keeps, beside process.FIXED and those of mvm's directories: where temporary files are, how
#: servers are reached for the audit log's anchors, and where the user's systemd is.
KEPT_VARIABLES: Final = re.compile(
    r"HOME|LANG|TMPDIR|XDG_RUNTIME_DIR|\w+_proxy|\w+_PROXY"
    r"|(NIX_)?SSL_CERT_(FILE|DIR)|CURL_CA_BUNDLE|REQUESTS_CA_BUNDLE"
)
#: Connections that may wait for a launcher to accept them.
_BACKLOG: Final = 64
#: Seconds that a connection may take.
_PATIENCE: Final = 10.0
_KEY: Final = re.compile(r"[0-9a-f]{32}")


def kept_variables(environment: Mapping[str, str], roots: Roots) -> dict[str, str]:
    """Return the variables that a launcher keeps of a caller's, and those that lead to the caller's directories.

    >>> roots = Roots(state="/s/mvmnix", cache="/c/mvmnix", config="/f/mvmnix", data="/d/mvmnix")
    >>> kept_variables({"HOME": "/home/u", "LD_PRELOAD": "/x.so"}, roots)["XDG_STATE_HOME"]
    '/s'
    """
    kept = {name: value for name, value in environment.items() if KEPT_VARIABLES.fullmatch(name)}
    return kept | {f"XDG_{name.upper()}_HOME": str(Path(path).parent) for name, path in roots.paths.items()}


def launcher_key(identity: ProcessIdentity, roots: Roots, environment: Mapping[str, str]) -> str:
    """Return the key of the launcher for callers of this identity. Raises OSError, RefusedError [state-permissions]."""
    status = {name: os.fstat(directory.fd) for name, directory in roots.directories.items()}
    parts = {
        "version": VERSION,
        "identity": dict(identity.fields),
        "roots": {name: [found.st_dev, found.st_ino] for name, found in status.items()},
        "variables": kept_variables(environment, roots),
        "interpreter": [sys.executable, sys.version, sys.prefix],
        "code": list(_code()),
    }
    return hashlib.sha256(canonical(parts)).hexdigest()[:32]


def _code() -> Iterator[str]:
    """Yield what tells one state of this package's files from another: paths, sizes and times."""
    pending = [str(Path(__file__).parents[2])]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        pending.append(entry.path)
                elif entry.name.endswith(".py"):
                    status = entry.stat()
                    yield f"{entry.path} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def listen(directory: Directory, key: str) -> socket.socket:
    """Open the listening socket of a launcher that holds its lock. Raises OSError."""
    return private_sockets.listen(directory, f"{key}.sock", _BACKLOG)


def connect(directory: Directory, key: str) -> tuple[socket.socket, int] | None:
    """Connect to the launcher of this key; the connection and the launcher's process id. None where none listens.

    A socket whose process doesn't hold the launcher's lock is not a launcher's.
    """
    try:
        connection = private_sockets.connect(directory, f"{key}.sock", _PATIENCE)
    except OSError:
        return None
    process, user = private_sockets.peer(connection)
    if user != os.geteuid() or process <= 0 or directory.holder(f"{key}.lock") != process:
        connection.close()
        return None
    return connection, process


def lock(directory: Directory, key: str) -> Lock | None:
    """Take the lock of the launcher of this key; None where another process has it."""
    return directory.try_lock(f"{key}.lock")


def forget(directory: Directory, key: str) -> None:
    """Remove the socket of a launcher that listens no more."""
    with suppress(OSError):
        directory.remove(f"{key}.sock")


def keys(directory: Directory) -> tuple[str, ...]:
    """Return the keys of all launchers that were started here, those that have ended too."""
    names = (name.removesuffix(".lock") for name in directory.names() if name.endswith(".lock"))
    return tuple(name for name in names if _KEY.fullmatch(name))


def holder(directory: Directory, key: str) -> int | None:
    """Return the process id of the launcher of this key; None where it has ended, 0 where it isn't visible here."""
    return directory.holder(f"{key}.lock")
