"""Writes docs/glossary.md from the types that folders hand out: `python -m tests.unit.glossary_page`.

With the argument `-` the page goes to stdout instead.
"""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Final

from tests.repository import ROOT
from tests.unit.rooms import ROOMS, names_of

PAGE = ROOT / "docs/glossary.md"
HEAD: Final = """\
# Glossary

Each type that a folder of mvm's hands out to others, in a line, and the standard that the term is
from; where none is named, the term is mvm's own. Written by `tests/unit/glossary_page.py` from the
types' docstrings. How they belong together is in [concepts.md](concepts.md).
"""
_IN_TOTO: Final = "in-toto Attestation Framework, Statement v1"
_SIGSTORE: Final = "Sigstore bundle v0.3"
_LOCK: Final = "Nix, flake.lock version 7"
_RFC6962: Final = "RFC 6962, section 2.1"
_CGROUPS: Final = "cgroups(7)"
#: By folder and type; a folder's own name stands for all of it that has no row.
STANDARDS: Final = {
    "audit.Checkpoint": "C2SP tlog-checkpoint",
    "audit.ConsistencyProof": _RFC6962,
    "audit.InclusionProof": _RFC6962,
    "audit.NoteKey": "C2SP signed-note",
    "builder.fetch.CachedPath": "Nix, binary cache (narinfo)",
    "builder.fetch.Proxy": "SOCKS 5, RFC 1928; HTTP CONNECT, RFC 9110",
    "builder.lockfile": _LOCK,
    "builder.oci": "OCI Distribution Specification 1.1",
    "builder.pins.DebianLock": "Debian Policy, chapter 7",
    "builder.pins.PythonLock": "PyPA, Core metadata and wheels",
    "builder.session.ArchiveReader": "POSIX.1-1988, ustar",
    "builder.session.Connection": "HTTP/1.1, RFC 9112",
    "launch.container.Crun": "OCI Runtime Specification 1.2",
    "launch.copy.TarWriter": "POSIX.1-2001, pax",
    "plan.BackendParameter": "Linux, kernel-parameters.txt",
    "plan.DataDisk": "LUKS1 On-Disk Format",
    "plan.ShareKind": "virtio-fs; EROFS",
    "vmm.DataAttachment": "LUKS1 On-Disk Format",
    "vmm.Usage": "getrusage(2)",
    "formats.LockedFlake": _LOCK,
    "system.ControlGroups": _CGROUPS,
    "system.Controller": _CGROUPS,
    "sandbox.NamespaceEntry": "setns(2), user_namespaces(7)",
    "system.Group": _CGROUPS,
    "system.GroupLimits": _CGROUPS,
    "provenance.bundle.Bundle": f"{_SIGSTORE}; DSSE v1",
    "provenance.bundle.LogEntry": f"{_SIGSTORE}, TransparencyLogEntry",
    "provenance.bundle.Material": f"{_SIGSTORE}, VerificationMaterial",
    "provenance.bundle.MessageBundle": f"{_SIGSTORE}, MessageSignature",
    "provenance.bundle.Proof": f"{_SIGSTORE}, InclusionProof; RFC 6962",
    "provenance.bundle.Statement": _IN_TOTO,
    "provenance.bundle.Subject": f"{_IN_TOTO}, ResourceDescriptor",
    "provenance.identity.Identity": "Fulcio certificates; RFC 5280, SAN",
    "provenance.bundle.Inclusion": f"{_SIGSTORE}, InclusionPromise and InclusionProof",
    "provenance.slsa.ForeignStatement": _IN_TOTO,
    "provenance.slsa.Provenance": "SLSA v1.0, provenance",
    "provenance.verify.Summary": "SLSA v1.0, VSA",
    "provenance.verify.SummaryInput": "SLSA v1.0, VSA (inputAttestations)",
    "provenance.verify.VerifiedSummary": "SLSA v1.0, VSA",
    "provenance.verify.Vsa": "SLSA v1.0, VSA",
    "sandbox.UidPool": "user_namespaces(7)",
    "sandbox.profiles": "seccomp(2)",
}


def rows(folder: str) -> list[tuple[str, str, str]]:
    """By name: type, what it is, standard."""
    found = []
    for module, name in names_of(folder):
        it = getattr(importlib.import_module(module), name)
        if inspect.isclass(it) and it.__module__.startswith(folder):
            where = folder.removeprefix("mvmnix.")
            standard = STANDARDS.get(f"{where}.{name}", STANDARDS.get(where, ""))
            found.append((name, (it.__doc__ or "").splitlines()[0].replace("|", "\\|"), standard))
    return list(dict.fromkeys(found))


def page() -> str:
    """The page as of today."""
    parts = [HEAD]
    for folder in ROOMS:
        if listed := rows(folder):
            lines = "".join(f"| `{name}` | {what} | {standard} |\n" for name, what, standard in listed)
            parts.append(
                f"## {folder.removeprefix('mvmnix.')}\n\n| type | what it is | standard |\n| --- | --- | --- |\n{lines}"
            )
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(page())
    else:
        Path(PAGE).write_text(page())
