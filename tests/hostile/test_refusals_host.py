"""What the host keeps is refused when others could change it: policy, keys, directories, log; and names are names."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.system.private_dirs import Directory
from tests.conftest import World
from tests.hostile.rig import GREETING, Rig, export_commit, flipped, replaced

pytestmark = pytest.mark.vm

HELLO = "./examples/hello"
ROOT = os.geteuid() == 0
NOBODY = 65534


def run(rig: Rig) -> set[str]:
    return rig.told("run", HELLO, cwd=rig.world.tree)


# The policy

HEAD = b"version = 1\nserial = 1\nexpires = 2036-01-01T00:00:00Z\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(b"", Code.POLICY_EMPTY, id="empty"),
        pytest.param(HEAD, Code.POLICY_EMPTY, id="nobody"),
        pytest.param(b"version = 2\n", Code.POLICY_MALFORMED, id="another version"),
        pytest.param(None, Code.POLICY_MISSING, id="missing"),
    ],
)
def test_a_policy_that_says_nothing(rig: Rig, text: bytes | None, code: Code) -> None:
    file = rig.home.config / "trust.toml"
    file.unlink()
    if text is not None:
        replaced(file, text)
    assert run(rig) == {code}
    assert rig.launch() == {code}
    assert rig.told("verify", rig.world.hello, status=2) == {code}, "could not verify"


def test_a_policy_without_signers(rig: Rig) -> None:
    file = rig.home.config / "trust.toml"
    text = file.read_text()
    replaced(file, text[text.index("[[builders]]") :].encode())
    assert run(rig) == {Code.POLICY_MALFORMED}, "its builders name signers that are not there"


def test_a_policy_in_the_working_directory(rig: Rig, tmp_path: Path) -> None:
    """A checkout must not bring its own judge."""
    checkout = tmp_path / "checkout"
    shutil.copytree(rig.home.config, checkout / "config/mvmnix")
    evil = {"XDG_CONFIG_HOME": checkout / "config"}
    assert rig.told("run", rig.world.tree / "examples/hello", cwd=checkout, env=evil) == {Code.POLICY_LOCATION}
    assert rig.launch(cwd=checkout, env=evil) == {Code.POLICY_LOCATION}
    assert rig.told("verify", rig.world.hello, cwd=checkout, env=evil, status=2) == {Code.POLICY_LOCATION}


def test_a_policy_in_the_work_tree_that_one_stands_in(rig: Rig, tmp_path: Path) -> None:
    """From a directory below its top, and by HOME as well."""
    checkout = tmp_path / "checkout"
    shutil.copytree(rig.home.config, checkout / ".config/mvmnix")
    shutil.copytree(rig.home.state, checkout / ".local/state/mvmnix")
    (checkout / "sub").mkdir()
    (checkout / ".git").mkdir()
    for evil, code in (
        ({"XDG_CONFIG_HOME": checkout / ".config"}, Code.POLICY_LOCATION),
        ({"XDG_STATE_HOME": checkout / ".local/state"}, Code.STATE_LOCATION),
        ({"HOME": checkout}, Code.STATE_LOCATION),
    ):
        assert rig.launch(cwd=checkout / "sub", env=evil) == {code}


def test_a_policy_beside_a_flake_is_not_read(rig: Rig, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for folder in (".", ".config/mvmnix", "mvmnix", ".mvmnix"):
        (checkout / folder).mkdir(parents=True, exist_ok=True)
        replaced(checkout / folder / "trust.toml", b"version = 1\n")
    assert rig.home.mvm("verify", rig.world.hello, cwd=checkout).returncode == 0


# Files and directories


def loose_mode(mode: int) -> Callable[[Path], object]:
    return lambda path: path.chmod(mode)


def foreign(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def linked(path: Path) -> None:
    moved = path.with_name(path.name + ".moved")
    path.rename(moved)
    path.symlink_to(moved)


WAYS: dict[str, Callable[[Path], object]] = {
    "everybody may write": loose_mode(0o777),
    "the group may write": loose_mode(0o770),
    "it is a link": linked,
} | ({"it is somebody else's": foreign} if ROOT else {})
PLACES = (
    *(".config", ".config/mvmnix", ".config/mvmnix/keys", ".config/mvmnix/trust.toml"),
    *(".local", ".local/state", ".local/state/mvmnix", ".local/state/mvmnix/images", ".local/state/mvmnix/builds"),
    *(".local/state/mvmnix/audit", ".local/state/mvmnix/machines", ".local/state/mvmnix/audit/0000000000000000.jsonl"),
    *(".local/state/mvmnix/replay", ".local/state/mvmnix/replay/clock.json"),
)


#: Every place in the way that happens most, and three places in every way.
CASES = [(place, "everybody may write") for place in PLACES]
CASES += [(place, way) for place in (PLACES[2], PLACES[3], PLACES[7]) for way in WAYS if way != CASES[0][1]]


@pytest.mark.parametrize(("place", "way"), CASES)
def test_a_place_that_others_could_have_changed(rig: Rig, place: str, way: str) -> None:
    WAYS[way](rig.home.path / place)
    assert run(rig) == {Code.STATE_PERMISSIONS}


def test_a_home_below_a_directory_of_everybody(rig: Rig) -> None:
    rig.home.path.chmod(0o777)
    assert run(rig) == {Code.STATE_PERMISSIONS}
    rig.home.path.chmod(0o1777 if ROOT else 0o700)
    rig.runs()


@pytest.mark.parametrize("name", ["planner", "host"])
def test_a_key_that_others_could_have_read(rig: Rig, name: str) -> None:
    key = rig.home.config / f"keys/{name}.pem"
    for mode in (0o640, 0o602):
        key.chmod(mode)
        assert run(rig) == {Code.KEY_PERMISSIONS}, oct(mode)
    key.chmod(0o600)
    for way in ("it is a link", *(["it is somebody else's"] if ROOT else [])):
        WAYS[way](key)
        assert rig.told("key", "show", name) == {Code.KEY_PERMISSIONS}, way
        if key.is_symlink():
            key.readlink().rename(key)


def test_the_builders_key_is_looked_at_when_it_is_used(rig: Rig) -> None:
    (rig.home.config / "keys/builder.pem").chmod(0o644)
    assert rig.told("build", "--again", HELLO, cwd=rig.world.tree) == {Code.KEY_PERMISSIONS}


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\0" * 5000])
def test_a_key_that_is_none(rig: Rig, text: bytes) -> None:
    replaced(rig.home.config / "keys/planner.pem", text)
    assert run(rig) == {Code.KEY_MALFORMED}


def test_a_host_key_of_a_kind_that_the_log_does_not_know(rig: Rig) -> None:
    """Signed notes are Ed25519's; the key is one that receipts could be signed with."""
    (rig.home.config / "keys/host.pem").unlink()
    with Directory.open(str(rig.home.config / "keys")) as keys:
        PrivateKey.create(keys, "host.pem", Algorithm.ECDSA_P256)
    assert run(rig) == {Code.KEY_MALFORMED}


def test_a_missing_key_is_said(rig: Rig) -> None:
    (rig.home.config / "keys/planner.pem").unlink()
    before = rig.marks
    done = rig.home.mvm("run", HELLO, cwd=rig.world.tree)
    assert done.returncode == 125
    assert b"mvm key create planner" in done.stderr
    assert rig.marks == before


# The log


def segment(home: Path) -> Path:
    return max((home / ".local/state/mvmnix/audit").glob("*.jsonl"))


#: What seals the log, within its last segment.
SEAL = re.compile(rb'\{"seal":"[^"]*","size":"[0-9]*"\}')


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda home: replaced(segment(home), change(segment(home).read_bytes().rstrip(b" ")))  # no room ahead


def without_the_last(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


def swapped(data: bytes) -> bytes:
    *before, last, least = data.splitlines(keepends=True)
    return b"".join((*before, least, last))


#: One for each check; all ways that a log breaks are rows of test_log.py and test_verify.py in tests/unit/audit.
BROKEN: dict[str, Callable[[Path], object]] = {
    "a changed record": rewritten(lambda it: it.replace(b'"exit":0', b'"exit":1')),
    "a record less": rewritten(without_the_last),
    "records in another order": rewritten(swapped),
    "two lines more": rewritten(lambda it: it + it.splitlines(keepends=True)[-1] * 2),
    "no records": lambda home: segment(home).unlink(),
    "no seal": rewritten(lambda it: SEAL.sub(lambda found: b" " * len(found[0]), it)),
    "a broken signature": rewritten(lambda it: SEAL.sub(lambda found: flipped(found[0], 30), it)),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_log_that_does_not_verify(rig: Rig, way: str) -> None:
    kept = rig.home.path / "kept"
    shutil.copytree(rig.home.state / "audit", kept)
    BROKEN[way](rig.home.path)
    assert run(rig) == {Code.LOG_MISMATCH}
    assert rig.launch() == {Code.LOG_MISMATCH}
    assert rig.told("audit", "verify", status=1) == {Code.LOG_MISMATCH}
    shutil.rmtree(rig.home.state / "audit")
    kept.rename(rig.home.state / "audit")
    assert rig.home.mvm("audit", "verify").returncode == 0


def test_a_log_of_another_host(rig: Rig, world: World) -> None:
    """The same log, and another host key: nobody can go on with it."""
    (rig.home.config / "keys/host.pem").unlink()
    with Directory.open(str(rig.home.config / "keys")) as keys:
        PrivateKey.create(keys, "host.pem")
    assert run(rig) == {Code.LOG_MISMATCH}
    assert world.home.mvm("audit", "verify").returncode == 0


# Names


@pytest.mark.parametrize("name", ["home,readonly=off file=,,x", "höme\n-append evil"])
def test_a_home_whose_name_smuggles_options(world: World, tmp_path: Path, name: str) -> None:
    """It works, for no path of ours reaches a parser of options."""
    odd = world.copy(tmp_path / name)
    done = odd.home.mvm("run", HELLO, cwd=odd.tree)
    assert (done.returncode, done.stdout) == (0, GREETING), done.stderr.decode()


def test_a_flake_whose_name_smuggles_options(rig: Rig, tmp_path: Path) -> None:
    """A copy of the same files is the same tree, wherever it lies: the finished build is found."""
    odd = tmp_path / "x,readonly=off if=none\n&dir"
    export_commit(rig.world.tree, odd)
    builders = rig.builders
    done = rig.home.mvm("run", f"path:{odd}?dir=examples/hello")
    assert (done.returncode, done.stdout) == (0, GREETING), done.stderr.decode()
    assert rig.builders == builders


@pytest.mark.parametrize(
    "arguments",
    [
        ("--name", "x,readonly=off", HELLO),
        ("--name", "../x", HELLO),
        ("--name", "a b", HELLO),
        ("--name", "a\nb", HELLO),
        ("--name", "x" * 200, HELLO),
        (f"path:{HELLO}?dir=../..",),
        (f"path:{HELLO}?dir=a%2fb",),
        (f"{HELLO}#default --impure",),
        ("github:NixOS/nixpkgs",),
        (f"{HELLO}?rev=1",),
    ],
)
def test_what_cannot_be_meant(rig: Rig, arguments: tuple[str, ...]) -> None:
    before = rig.marks
    done = rig.home.mvm("run", *arguments, cwd=rig.world.tree)
    assert done.returncode == 2, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert rig.marks == before
