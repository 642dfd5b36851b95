"""mvm's own directories are refused inside the checkout that one stands in, or that is named, and nowhere else."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.system.checkouts import refuse_inside
from mvmnix.system.roots import Roots


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory that the password file has for us: at first with nothing but a project in git."""
    found = tmp_path / "home/me"
    (found / "project/.git").mkdir(parents=True)
    (found / "project/sub/deeper").mkdir(parents=True)
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*entry[:5], str(found), entry[6])))
    return found


#: Where mvm's directory is to be, where one stands, and whether that is refused; all below the home directory.
ROWS = (
    ("project/.config", "project", True),
    ("project/.config", "project/sub", True),
    ("project/.config", "project/sub/deeper", True),
    ("project/sub/deeper/x/y", "project/sub", True),
    ("project", "project", True),
    ("project/.git/config", "project/sub", True),
    (".config", "project", False),
    (".config", "project/sub/deeper", False),
    (".config", ".", False),
    ("other/.config", "project", False),
    ("project-2/.config", "project", False),
    ("project/.config", ".", False),
    ("project/.config", "..", False),
    ("plain/.config", "plain", True),
    ("plain/.config", "plain/sub", False),
    (".config/mvmnix", ".config/mvmnix", True),
    (".config/mvmnix", ".config", True),
)


@pytest.mark.parametrize(("where", "directory", "refused"), ROWS)
@pytest.mark.parametrize("dotfiles", [False, True], ids=["", "home in git"])
def test_where_a_directory_may_be(home: Path, where: str, directory: str, refused: bool, dotfiles: bool) -> None:
    for each in ("plain/sub", ".config/mvmnix"):
        (home / each).mkdir(parents=True)
    if dotfiles:
        (home / ".git").mkdir()
    wanted, here = {"config": str(home / where)}, str(home / directory)
    if not refused:
        refuse_inside(wanted, here)
        return
    with pytest.raises(RefusedError) as caught:
        refuse_inside(wanted, here)
    assert caught.value.codes == (ReasonCode.POLICY_LOCATION,)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("config", ReasonCode.POLICY_LOCATION),
        ("state", ReasonCode.STATE_LOCATION),
        ("cache", ReasonCode.STATE_LOCATION),
    ],
)
def test_which_of_them_it_is(home: Path, name: str, code: ReasonCode) -> None:
    paths = {each: str(home / f".{each}") for each in ("config", "state", "cache")}
    refuse_inside(paths, str(home / "project"))
    with pytest.raises(RefusedError) as caught:
        refuse_inside(paths | {name: str(home / "project/x")}, str(home / "project"))
    assert caught.value.codes == (code,)


@pytest.mark.parametrize("mark", [".git", "flake.nix"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda it: it.symlink_to("nowhere")])
def test_what_makes_a_checkout(home: Path, mark: str, make: Callable[[Path], object]) -> None:
    """A linked work tree and a submodule have a file .git (gitrepository-layout(5))."""
    top, wanted = home / "unpacked", {"config": str(home / "unpacked/.config")}
    (top / "sub").mkdir(parents=True)
    refuse_inside(wanted, str(top / "sub"))
    make(top / mark)
    with pytest.raises(RefusedError):
        refuse_inside(wanted, str(top / "sub"))


def test_a_work_tree_in_a_work_tree(home: Path) -> None:
    """From a submodule, the outer work tree is a checkout, too."""
    (home / "project/sub/.git").touch()
    for inside in ("project/.config", "project/sub/.config"):
        with pytest.raises(RefusedError):
            refuse_inside({"config": str(home / inside)}, str(home / "project/sub/deeper"))


def test_another_name_for_the_same_tree(home: Path) -> None:
    """By device and inode: a symbolic link into the checkout leads there, and so does one to stand in."""
    (home / "link").symlink_to("project")
    (home / "inner").symlink_to("project/sub")
    for path, directory in (
        ("link/.config", "project"),
        ("project/.config", "link/sub"),
        ("inner/.config", "project"),
        ("inner", "project/sub/deeper"),
    ):
        with pytest.raises(RefusedError):
            refuse_inside({"config": str(home / path)}, str(home / directory))


def test_the_variable_home_counts_for_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout whose .envrc says HOME=$PWD is no home directory."""
    project = home / "project"
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.chdir(project)
    roots = Roots.from_environment({"HOME": str(project)})
    for name, code in (
        ("config", ReasonCode.POLICY_LOCATION),
        ("state", ReasonCode.STATE_LOCATION),
        ("cache", ReasonCode.STATE_LOCATION),
        ("data", ReasonCode.STATE_LOCATION),
    ):
        with roots, pytest.raises(RefusedError) as caught:
            getattr(roots, name)
        assert caught.value.codes == (code,)
    assert sorted(os.listdir(project)) == [".git", "sub"], "nothing was made there"  # noqa: PTH208 - names alone


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"])
def test_each_variable(home: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.chdir(home / "project/sub")
    name = variable.split("_")[1].lower()
    with Roots.from_environment({"HOME": str(home), variable: str(home / "project/x")}) as roots:
        for other in {"config", "state", "cache", "data"} - {name}:
            getattr(roots, other)
        with pytest.raises(RefusedError):
            getattr(roots, name)


def test_a_user_without_an_entry_has_no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    refuse_inside({"config": str(home / ".config")}, "/")
    with pytest.raises(RefusedError):
        refuse_inside({"config": str(home / ".config")}, str(home))


def test_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is gone leads to no checkout; a flake that is not there is refused for that."""
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for directory in (".", str(home / "never")):
        refuse_inside({"config": str(home / "gone/.config")}, directory)
    monkeypatch.chdir("/")
