"""The lock files: strict in what they read, the same bytes in what they write."""

import json
from typing import Any

import pytest

from mvmnix.builder.pins.locks import DebianLock, DebianPin, DependencyDepth, Seed, parse_debian, parse_python
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import HashMode
from tests.repository import ROOT

MODULES = ROOT / "modules"
NAR = Digest.of(b"nar")
DEBIAN: dict[str, Any] = {
    "version": 1,
    "suite": "trixie",
    "architecture": "amd64",
    "seed": {"package": "busybox-static", "path": "usr/bin/busybox", "narHash": NAR.sri},
    "requested": {"busybox-static": "closure", "bash": "alone"},
    "packages": {
        "bash": {
            "version": "5.2.37-2+b10",
            "architecture": "amd64",
            "filename": "pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb",
            "size": 12,
            "sha256": "0" * 64,
            "depends": ["base-files", "libc6"],
        },
        "busybox-static": {
            "version": "1:1.37.0-6~x",
            "architecture": "amd64",
            "filename": "pool/updates/main/b/busybox/busybox-static_1.37.0-6~x_amd64.deb",
            "size": 34,
            "sha256": "1" * 64,
            "depends": [],
            "suite": "trixie-security",
        },
    },
}
PYTHON: dict[str, Any] = {
    "version": 1,
    "python": "3.13",
    "packages": {
        "rich": {
            "version": "15.0.0",
            "filename": "rich-15.0.0-py3-none-any.whl",
            "size": 5,
            "sha256": "2" * 64,
            "depends": ["pygments"],
        },
        "pygments": {
            "version": "2.21.0",
            "filename": "pygments-2.21.0-py3-none-any.whl",
            "size": 6,
            "sha256": "3" * 64,
            "depends": [],
        },
    },
}


def changed(document: dict[str, Any], where: str, value: object) -> bytes:
    """The document with one field replaced; `where` is a path of keys, and None drops the field."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    *parents, last = where.split("/")
    target = copy
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return json.dumps(copy).encode()


def test_debian_lock_says_what_its_sources_are() -> None:
    lock = parse_debian(json.dumps(DEBIAN).encode())
    assert lock.requested == {"bash": DependencyDepth.ALONE, "busybox-static": DependencyDepth.CLOSURE}
    bash, busybox, seed = lock.sources()
    assert (bash.uri, bash.name) == (
        "mirror://debian/pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb",
        "bash_5.2.37-2+b10_amd64.deb",
    )
    assert busybox.name == "busybox-static_1.37.0-6_x_amd64.deb"
    assert (seed, busybox) == (lock.seed_source, lock.seed_package)
    assert (seed.uri, seed.name) == (busybox.uri + "#usr/bin/busybox", "busybox")
    assert (seed.digest, seed.mode) == (NAR, HashMode.NAR)


@pytest.mark.parametrize("document", [DEBIAN, PYTHON], ids=["debian", "python"])
def test_locks_are_written_sorted_and_read_back(document: dict[str, Any]) -> None:
    reordered = json.dumps(dict(reversed(document.items()))).encode()
    parse = parse_debian if document is DEBIAN else parse_python
    written = parse(reordered).serialise()
    assert parse(written).serialise() == written == parse(json.dumps(document).encode()).serialise()
    assert list(json.loads(written)["packages"]) == sorted(document["packages"])
    assert json.loads(written) == document


def test_the_committed_locks_are_as_the_tool_writes_them() -> None:
    for path, parse in ((MODULES / "debian/lock.json", parse_debian), (MODULES / "python/lock.json", parse_python)):
        data = path.read_bytes()
        assert parse(data).serialise() == data
        assert b"://" not in data


BROKEN = [
    ("version", 2, "version"),
    ("suite", "", "suite"),
    ("suite", None, "suite: missing"),
    ("extra", 1, "extra: unknown"),
    ("architecture", "arm64", "for amd64"),
    ("seed/narHash", "sha256-AAAA", "narHash"),
    ("seed/path", "/usr/bin/busybox", "path in a package"),
    ("seed/path", "usr/../busybox", "path in a package"),
    ("seed/package", "dash", "not in packages: dash"),
    ("requested/bash", "some", "bash"),
    ("requested/dash", "alone", "not in packages: dash"),
    ("packages", [], "not an object"),
    ("packages/bash/size", 0, "size"),
    ("packages/bash/size", True, "size"),
    ("packages/bash/sha256", "0" * 63, "sha256"),
    ("packages/bash/sha256", "A" * 64, "sha256"),
    ("packages/bash/version", "$(id)", "version"),
    ("packages/bash/filename", "../x.deb", "pool path"),
    ("packages/bash/filename", "/etc/x.deb", "pool path"),
    ("packages/bash/filename", "pool/a b.deb", "pool path"),
    ("packages/bash/filename", "http://host/x.deb", "pool path"),
    ("packages/bash/filename", "pool/x.deb?y=z.deb", "pool path"),
    ("packages/bash/filename", "pool/-o.deb/../x.deb", "pool path"),
    ("packages/bash/depends", ["libc6", "base-files"], "sorted"),
    ("packages/bash/depends", ["libc6", "libc6"], "sorted"),
    ("packages/bash/depends", ["-o=x"], "package name"),
    ("packages/bash/suite", "Trixie/../", "suite"),
    ("packages/bash/extra", 1, "extra: unknown"),
    ("packages/bash/depends", None, "depends: missing"),
]


@pytest.mark.parametrize(("where", "value", "told"), BROKEN)
def test_a_malformed_debian_lock_is_refused(where: str, value: object, told: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse_debian(changed(DEBIAN, where, value), where="the/lock.json")
    assert set(refusal.value.codes) == {ReasonCode.LOCK_MALFORMED}
    assert told in str(refusal.value)
    assert "the/lock.json" in str(refusal.value)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ("python", "3", "Python version"),
        ("packages/rich/filename", "rich-15.0.0.tar.gz", "wheel file name"),
        ("packages/rich/filename", "../rich-15.0.0-py3-none-any.whl", "wheel file name"),
        ("packages/rich/version", "15 0", "version"),
        ("packages/rich/depends", ["mdurl"], "not in packages: mdurl"),
        ("packages/rich/depends", ["Pygments"], "package name"),
        ("packages/rich/suite", "x", "suite: unknown"),
    ],
)
def test_a_malformed_wheel_lock_is_refused(where: str, value: object, told: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse_python(changed(PYTHON, where, value))
    assert set(refusal.value.codes) == {ReasonCode.LOCK_MALFORMED}
    assert told in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"version": 1, "version": 1}', b'{"version": NaN}'])
def test_what_is_no_lock_at_all_is_refused(data: bytes) -> None:
    for parse in (parse_debian, parse_python):
        with pytest.raises(RefusedError) as refusal:
            parse(data)
        assert set(refusal.value.codes) == {ReasonCode.LOCK_MALFORMED}


def test_all_problems_are_told_at_once() -> None:
    document = json.loads(changed(DEBIAN, "packages/bash/size", -1))
    with pytest.raises(RefusedError) as refusal:
        parse_debian(changed(document, "packages/busybox-static/version", "?"))
    assert "packages.bash" in str(refusal.value)
    assert "packages.busybox-static" in str(refusal.value)


def test_a_lock_cannot_be_made_with_a_seed_that_is_not_pinned() -> None:
    pin = DebianPin("bash", "1", "amd64", "pool/b/bash_1_amd64.deb", 1, NAR, ())
    with pytest.raises(ValueError, match="busybox-static"):
        DebianLock(
            "trixie", "amd64", Seed("busybox-static", "bin/x", NAR), {"bash": DependencyDepth.ALONE}, {"bash": pin}
        )
