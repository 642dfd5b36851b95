"""Files that are no bundles, or far too much of one: a clear refusal each, in bounded memory and time."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.formats.strict import MAX_VALUES
from tests.patience import scaled
from tests.private_sigstore import answers
from tests.unit.cli.releases import KEY, Release, provenance, signed
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import V1, Json

M = 2**20
#: What the whole process may have of its own (RLIMIT_DATA) beyond what a good bundle takes, in bytes: the largest file
#: five times.
MEMORY = 320 * M
#: The command, which says at its end how many KiB it has of its own.
MEASURED = """
import sys
from mvmnix.cli.main import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(*(line.split()[1] for line in status if line.startswith("VmData:")), file=sys.stderr)
"""

GOOD = provenance()
HEAD = b'{"dsseEnvelope":{"payload":"'


def statement(**more: object) -> Json:
    return foreign.statement(V1, foreign.workflow()) | more


def inside(text: bytes) -> bytes:
    """The good statement with one field more, in these bytes."""
    return signed(foreign.to_bytes(statement()).removesuffix(b"}") + b',"more":' + text + b"}")


def beside(text: bytes) -> bytes:
    """The good bundle with one field more."""
    return GOOD.removesuffix(b"}") + b',"more":' + text + b"}"


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def of(media: bytes) -> bytes:
    return b'{"mediaType":"' + media + b'","more":['


#: What takes no memory worth a process of its own: what is handed in, and the reason that it is refused for.
SMALL: Mapping[str, tuple[Callable[[], bytes], Code]] = {
    "nothing": (lambda: b"", Code.ATTESTATION_MISSING),
    "not UTF-8": (lambda: beside(b'"\xff"'), Code.BUNDLE_MALFORMED),
    "half a pair of surrogates": (lambda: beside(b'"\\ud800"'), Code.BUNDLE_MALFORMED),
    "no object": (lambda: b"[1, 2]", Code.BUNDLE_MALFORMED),
    "a key twice": (lambda: beside(b"1").replace(b'"more":1', b'"mediaType":"x"'), Code.BUNDLE_MALFORMED),
    "33 levels": (lambda: beside(deep(33)), Code.BUNDLE_MALFORMED),
    "100,000 levels": (lambda: beside(deep(100_000)), Code.BUNDLE_MALFORMED),
    "a number of 100,000 digits": (lambda: beside(b"1" * 100_000), Code.BUNDLE_MALFORMED),
    "a statement that is not UTF-8": (lambda: inside(b'"\xff"'), Code.STATEMENT_MALFORMED),
    "a statement with a key twice": (lambda: inside(b'1,"more":1'), Code.STATEMENT_MALFORMED),
    "a statement of 33 levels": (lambda: inside(deep(33)), Code.STATEMENT_MALFORMED),
    "a statement of 100,000 levels": (lambda: inside(deep(100_000)), Code.STATEMENT_MALFORMED),
    "a statement of fractions": (lambda: inside(b"1e400"), Code.STATEMENT_MALFORMED),
}
#: What is handed in; what is said of it: a reason (exit code 1), or words (2: nothing could be looked at).
LARGE: Mapping[str, tuple[Callable[[], bytes], Code | str]] = {
    "100 MiB": (lambda: b" " * (100 * M), "larger than 67108864 bytes"),
    "100 MiB of bundles": (lambda: (GOOD + b"\n") * (100 * M // len(GOOD)), "larger than 67108864 bytes"),
    "64 MiB of line breaks": (lambda: b"\n" * (64 * M), "more than 1048576 lines"),
    "64 MiB of other line breaks": (lambda: b"\r" * (64 * M), "more than 1048576 lines"),
    "64 MiB in one line": (lambda: b"x" * (64 * M), Code.BUNDLE_MALFORMED),
    "24 MiB of brackets": (lambda: b"[" * (24 * M), Code.BUNDLE_MALFORMED),
    "24 MiB of names": (lambda: b'{"a":' * (24 * M // 5), Code.BUNDLE_MALFORMED),
    "24 MiB of quotes": (lambda: b'"' * (24 * M), Code.BUNDLE_MALFORMED),
    "numbers without end": (lambda: of(b"x") + b"0," * (10 * M) + b"0]}", Code.BUNDLE_MALFORMED),
    "objects without end": (lambda: of(b"x") + b"{}," * (7 * M) + b"0]}", Code.BUNDLE_MALFORMED),
    "objects without end, as mvm writes": (
        lambda: HEAD + b'"},"x":[' + b"{}," * (7 * M) + b"0]}",
        Code.BUNDLE_MALFORMED,
    ),
    "numbers without end, and a line that could be one": (
        lambda: b"[\n{}\n" + b",0" * (20 * M) + b"]",
        Code.BUNDLE_MALFORMED,
    ),
    "10,000 lines": (lambda: b"\n".join([GOOD] * 10_000), "at most 1024"),
    "10,000 attestations": (lambda: answer(10_000), Code.BUNDLE_MALFORMED),
    "a statement of more than 16 MiB": (lambda: inside(b'"' + b"x" * (16 * M) + b'"'), Code.STATEMENT_MALFORMED),
    "a statement of numbers": (lambda: inside(b"[" + b"0," * MAX_VALUES + b"0]"), Code.STATEMENT_MALFORMED),
    "a statement about 60,000 others": (lambda: signed(statement(subject=others(60_000))), Code.SUBJECT_MISMATCH),
    "a statement about 70,000 others": (lambda: signed(statement(subject=others(70_000))), Code.STATEMENT_MALFORMED),
}


def answer(count: int) -> bytes:
    return json.dumps({"attestations": answers.github(GOOD)["attestations"] * count}).encode()


def others(count: int) -> list[Json]:
    return [{"name": "x", "digest": {"sha256": "0" * 64}}] * count


@cache
def prlimit() -> str:
    found = shutil.which("prlimit")
    assert found is not None
    return found


@cache
def taken() -> int:
    """The bytes that a good bundle takes, with all that is imported for it."""
    with tempfile.TemporaryDirectory() as directory:
        done = run(Path(directory), GOOD, (sys.executable, "-P", "-c", MEASURED))
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stderr.split()[-1]) * 1024


def verify(directory: Path, data: bytes) -> "subprocess.CompletedProcess[bytes]":
    """In a process of its own, which ends where it takes more memory or time than it may."""
    limited = (prlimit(), f"--data={taken() + MEMORY}", f"--cpu={scaled(20)}")
    return run(directory, data, (*limited, sys.executable, "-P", "-m", "mvmnix.cli"))


def run(directory: Path, data: bytes, command: tuple[str, ...]) -> "subprocess.CompletedProcess[bytes]":
    for name, content in {"app.img": foreign.ARTIFACT, "bundle": data, "key.pub": KEY.public.pem.encode()}.items():
        (directory / name).write_bytes(content)
    argv = [*command, "verify", "--key", "key.pub", "--bundle", "bundle", "app.img"]
    environment = {"HOME": str(directory), "PATH": "/usr/bin:/bin"}
    return subprocess.run(argv, cwd=directory, capture_output=True, env=environment, check=False)


def test_what_is_good_passes_within_these_limits(tmp_path: Path) -> None:
    most = MAX_VALUES - GOOD.count(b",") - GOOD.count(b"{") - GOOD.count(b"[") - 200
    for data in (GOOD, b"\n".join([GOOD] * 1024), answer(1024), inside(b"[" + b"0," * most + b"0]")):
        done = verify(tmp_path, data)
        assert done.returncode == 0, done.stderr.decode()[-500:]


@pytest.mark.parametrize("row", SMALL)
def test_it_is_refused(it: Release, row: str) -> None:
    made, expected = SMALL[row]
    it.bundle.write_bytes(made())
    said = it.verify(it.artifact)
    assert (said.code, f"refused [{expected}]" in said.err, len(said.err) < 4096) == (1, True, True), said.err[-500:]


@pytest.mark.parametrize("row", LARGE)
def test_it_is_refused_in_bounded_memory(tmp_path: Path, row: str) -> None:
    made, expected = LARGE[row]
    done = verify(tmp_path, made())
    said = done.stderr.decode()
    if isinstance(expected, Code):
        assert (done.returncode, f"refused [{expected}]" in said) == (1, True), said[-500:]
    else:
        assert (done.returncode, expected in said) == (2, True), said[-500:]
    assert len(said) < 4096
