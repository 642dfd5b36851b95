"""What tests take for granted of the machine: nothing but what Debian has, and no name that another run has too."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.repository import ROOT, tracked

#: What opens, makes or looks at a path, by its name.
OPENERS = {
    *("Path", "open", "chdir", "access", "exists", "listdir", "lstat", "stat", "readlink"),
    *("TemporaryDirectory", "mkdtemp", "makedirs", "mkdir", "rmtree", "symlink", "unlink", "copy", "copyfile"),
}
#: Debian's own, and the kernel's.
EVERYWHERE = re.compile(r"/|/(proc|sys|dev|usr|bin|lib64)(/.*)?|/etc(/passwd|/shadow)?|/home|/tmp|/var/lib|/run|/srv")
#: Paths that are not opened but written, read and compared; those that what was root tries; homes of users of a test's.
ONLY_WORDS = {
    "tests/conftest.py": {"/var/tmp"},
    "tests/hostile/left_root.py": {"/etc/mvmnix-taken-over", "/root"},
    "tests/hostile/test_system_user.py": {"/var/lib/"},
    "tests/integration/test_trees.py": {"/work"},
    "tests/unit/builder/nix/test_store_choice.py": {"/home/u/nix"},
    "tests/unit/builder/pins/small_index.py": {"/x", "/p/pip"},
    "tests/unit/builder/pins/test_client_settings.py": {"/etc/key.pem", "/etc/ca.pem", "/srv/packages"},
    "tests/unit/builder/pins/test_pypi.py": {"/x", "/p/pip"},
    "tests/unit/cli/test_child_failures.py": {"/flake"},
    "tests/unit/sdk/test_files.py": {"/nosuch", "/tmp\0", "/tmp/a/b", "/tmp/a/file", "/tmp/a/link"},  # in the guest
    "tests/unit/test_argument_builders.py": {"/somewhere"},
    "tests/vm/generations/hook.py": {"/run/mvm/generation"},  # in the guest
}
#: Paths by which a test means that nothing is there: only in /proc can nobody make them.
NOWHERE = re.compile(r"(?<![\w*.])/(nonexistent|nowhere|no/such)")


def opened(source: str) -> Iterator[str]:
    """Absolute paths, and how such ones begin, that calls open."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=given, keywords=more):
                paths = [*given[:1], *(each.value for each in more if each.arg == "dir")] if name in OPENERS else []
            case _:
                paths = []
        for path in paths:
            begin = path.values[0] if isinstance(path, ast.JoinedStr) and path.values else path
            if isinstance(begin, ast.Constant) and isinstance(begin.value, str) and begin.value.startswith("/"):
                yield begin.value


TESTS = [path for path in tracked() if path.parts[0] == "tests" and path.suffix == ".py"]


def test_paths_are_the_tests_own_or_everywhere() -> None:
    found = {str(path): set(opened((ROOT / path).read_text())) for path in TESTS}
    foreign = {path: {each for each in paths if not EVERYWHERE.fullmatch(each)} for path, paths in found.items()}
    assert {path: paths for path, paths in foreign.items() if paths} == ONLY_WORDS


def test_what_is_not_there_can_not_be_there() -> None:
    own = "tests/unit/test_own_state.py"
    assert [str(path) for path in TESTS if str(path) != own and NOWHERE.search((ROOT / path).read_text())] == []


#: What gives uids away; who takes one ends what was left with it.
POOLS = {"SubordinateIds", "RootIds"}
#: The first uid that no user of a machine has, nor any of users' subordinate ones.
NOBODYS = 1_900_000_000


def given_away(source: str) -> Iterator[int]:
    """Uids that calls give away by a number."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=int(uid)), *_]) if name in POOLS:
                yield uid


def test_no_test_gives_away_a_uid_that_somebody_here_has() -> None:
    """The first one that did ended a machine of another suite, whose uid it had taken for made up."""
    found = {str(path): [uid for uid in given_away((ROOT / path).read_text()) if uid < NOBODYS] for path in TESTS}
    assert {path: uids for path, uids in found.items() if uids} == {}
    assert list(given_away("SOME = SubordinateIds(100_000, 200_000, 16)")) == [100_000]


@pytest.mark.parametrize("line", ['Path("/opt/x").read_text()', 'open(f"/tmp/{name}")', 'mkdtemp(dir="/opt")'])
def test_others_paths_are_found(line: str) -> None:
    assert [path for path in opened(line) if not EVERYWHERE.fullmatch(path)]
