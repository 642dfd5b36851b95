"""Small Packages indexes and packages for tests, written in a line each."""

import io
import tarfile
from pathlib import Path

from mvmnix.builder.fetch.routes import ToConfigured
from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.pip_settings import PipSettings
from mvmnix.builder.pins.pypi import PipIndexes
from mvmnix.digest import Digest


def stanza(name: str, version: str = "1.0", *, pool: str = "", **fields: str) -> str:
    """One stanza; the package is as long as its name, and its bytes are its name."""
    source = pool or name
    given = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Filename": f"pool/main/{source[0]}/{source}/{name}_{version}_amd64.deb",
        "Size": str(len(name)),
        "SHA256": Digest.of(f"{name} {version}".encode()).hex,
        "Description": "first line\n and another: with a colon",
    } | {field.replace("_", "-"): value for field, value in fields.items()}
    return "".join(f"{field}: {value}\n" for field, value in given.items())


def index(suite: str, *stanzas: str) -> Index:
    """A suite with these stanzas."""
    return Index(suite, ["\n".join(stanzas).encode()])


def ar(**members: bytes) -> bytes:
    """An ar archive (ar(5)); `_` in a name stands for a dot."""
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        head = f"{name.replace('_', '.') + '/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
        parts += [head.encode(), data, b"\n" * (len(data) % 2)]
    return b"".join(parts)


def deb(files: dict[str, bytes], *, compression: str = "xz") -> bytes:
    """A .deb with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return deb_of(compression, buffer.getvalue())


def deb_of(compression: str, archive: bytes) -> bytes:
    """A .deb (deb(5)) whose files are in this packed archive."""
    return ar(**{"debian-binary": b"2.0\n", "control_tar_xz": b"odd", f"data_tar_{compression}": archive})


SETTINGS = PipSettings(
    ToConfigured(frozenset()), {"PIP_INDEX_URL": "https://me:hush@index.test"}, {"/pip/x": Path("/x")}, (), ()
)
INDEXES = PipIndexes(SETTINGS, {"/packages/pip": Path("/p/pip")})
