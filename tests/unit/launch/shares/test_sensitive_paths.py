"""Each place of the tables is found in each form; variables move them; mvm's program is never shared for writing."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

import mvmnix
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.shares import risk_checks, sensitive_paths
from mvmnix.launch.shares.opening import open_directory
from mvmnix.launch.shares.risk_checks import Mounts, refuse_dangers
from mvmnix.launch.shares.sensitive_paths import (
    CODE,
    CODE_VARIABLES,
    CREDENTIALS,
    HOME_CODE,
    MOVED,
    SYSTEM_CODE,
    follow_links,
    list_code_places,
    list_credential_places,
    list_program_directories,
    list_program_trees,
)
from mvmnix.plan.share import Access, Danger, Share, is_within

READ, WRITTEN = Access.READ_ONLY, Access.READ_WRITE
EVERY = tuple(sorted(Danger))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only home of this host; no variable moves anything."""
    for variable in (*MOVED, *CODE_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path.resolve() / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(risk_checks, "_homes", lambda: iter([str(home)]))
    return home


@pytest.fixture
def plain(home: Path) -> Path:
    plain = home.parent / "plain"
    plain.mkdir()
    return plain


def reasons(path: Path, access: Access, *acknowledged: Danger) -> list[str]:
    """Why a share is refused."""
    fd = open_directory(str(path))
    try:
        refuse_dangers(Share(str(path), "/data", access, acknowledged=acknowledged), fd, ())
    except RefusedError as refused:
        assert set(refused.codes) == {ReasonCode.SHARE_FORBIDDEN}
        return [reason.why for reason in refused.reasons]
    finally:
        os.close(fd)
    return []


def is_refused(path: Path, access: Access, danger: Danger) -> bool:
    return any(why.endswith(f"[{danger}]") for why in reasons(path, access))


#: For each word the access that is refused without it, and the names of its table.
TABLES = {Danger.CREDENTIALS: (READ, CREDENTIALS), Danger.CODE: (WRITTEN, CODE | HOME_CODE)}


@pytest.fixture
def tables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for nothing but names of the tables, which takes a tenth of the time."""
    for name in ("list_program_trees", "list_program_directories", "_listening"):
        monkeypatch.setattr(risk_checks, name, lambda: ())
    monkeypatch.setattr(risk_checks, "_look_into", lambda places: (risk_checks._find_existing(places), ()))


def list_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the tables of places hold these names alone, so that no other row of them refuses a share."""
    for table, all_names in (("CREDENTIALS", CREDENTIALS), ("CODE", CODE), ("HOME_CODE", HOME_CODE)):
        monkeypatch.setattr(sensitive_paths, table, all_names & {*names})


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize("danger", TABLES)
def test_a_place_in_a_home(home: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, danger: Danger) -> None:
    """What lies in it, what it leads to by a symbolic link, and what holds it, also where it has yet to be made."""
    access, names = TABLES[danger]
    (plain / "data/in").mkdir(parents=True)
    missed = []
    for name in sorted(names):
        list_only(monkeypatch, name)
        place = home / name
        place.parent.mkdir(parents=True, exist_ok=True)
        forms = {"its directory": access is READ or is_refused(place.parent, access, danger)}
        if not place.exists():
            place.symlink_to(plain / "data")
            forms["what lies in what it leads to"] = is_refused(plain / "data/in", access, danger)
            place.unlink()
        (place / "deep").mkdir(parents=True)
        forms["what lies in it"] = is_refused(place / "deep", access, danger)
        missed += [(name, form) for form, found in forms.items() if not found]
        if place.parent == home or name.startswith("snap"):
            shutil.rmtree(place)
        else:
            shutil.rmtree(place.parent)
    assert not missed


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize("danger", TABLES)
def test_a_place_in_a_home_that_is_mounted(
    home: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, danger: Danger
) -> None:
    access, names = TABLES[danger]
    lines, missed = risk_checks._lines("/proc/self/mountinfo"), []
    for name in sorted(names):
        list_only(monkeypatch, name)
        (home / name).mkdir(parents=True, exist_ok=True)
        found = Mounts(lines).of_path(str(home / name))
        assert found is not None
        mount = f"999999 1 {found.device} {found.path} {plain}/in".replace(name, name.replace(" ", r"\040"))
        bind = (*lines, f"{mount} rw - ext4 disk rw")
        monkeypatch.setattr(risk_checks, "_lines", lambda path, bind=bind: bind if path.endswith("mountinfo") else ())
        missed += [] if is_refused(plain, access, danger) else [name]
        shutil.rmtree(home / name.split("/")[0])
    assert not missed


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize("danger", TABLES)
def test_a_place_anywhere(plain: Path, monkeypatch: pytest.MonkeyPatch, danger: Danger) -> None:
    """In any case: there are file systems to which `.SSH` is `.ssh`."""
    access, names = TABLES[danger]
    list_only(monkeypatch)
    missed = []
    for number, name in enumerate(sorted(names - (HOME_CODE if danger is Danger.CODE else frozenset()))):
        share = plain / str(number)
        (share / name.upper() / "deep").mkdir(parents=True)
        for path in (share, share / name.upper().split("/")[0], share / name.upper() / "deep"):
            missed += [] if is_refused(path, access, danger) else [path]
    assert not missed


def test_code_is_read_without_a_word(plain: Path) -> None:
    (plain / ".git").mkdir()
    assert reasons(plain, READ) == []
    assert is_refused(plain, WRITTEN, Danger.CODE)
    assert reasons(plain, WRITTEN, Danger.CODE) == []


def test_a_hard_link_of_code_is_that_code(home: Path, plain: Path) -> None:
    (home / ".bashrc").touch()
    (plain / "in").mkdir()
    (plain / "in/notes").hardlink_to(home / ".bashrc")
    assert reasons(plain, READ) == []
    assert [why.partition(",")[0] for why in reasons(plain, WRITTEN)] == [f"it holds {home}/.bashrc by another name"]


#: A link in a home, where it leads in a share, and whether the file is there; the access, and the word that it takes.
LINKED = {
    "a program": (".local/bin/tool", "tool.py", True, WRITTEN, Danger.CODE),
    "a program that has yet to be made": (".local/bin/tool", "tool.py", False, WRITTEN, Danger.CODE),
    "a unit": (".config/systemd/user/x.service", "deep/er/x.service", True, WRITTEN, Danger.CODE),
    "a unit that is wanted": (".config/systemd/user/default.target.wants/x", "x", True, WRITTEN, Danger.CODE),
    "a start-up file": (".bashrc", "bashrc", True, WRITTEN, Danger.CODE),
    "a package": (".local/lib/node_modules/x", ".", True, WRITTEN, Danger.CODE),
    "a key": (".ssh/id_ed25519", "keys/one", True, READ, Danger.CREDENTIALS),
}


@pytest.mark.parametrize("row", LINKED)
def test_what_a_link_in_a_place_leads_to(home: Path, plain: Path, row: str) -> None:
    """By one link, and by a second one in the share, which leads out of it again."""
    link, target, is_there, access, danger = LINKED[row]
    for made in (home / link, plain / "in" / target):
        made.parent.mkdir(parents=True, exist_ok=True)
    (plain / "in").mkdir(exist_ok=True)
    (home / link).symlink_to(plain / "in" / target)
    if is_there and target != ".":
        (plain / "in" / target).touch()
    (plain / "beside").mkdir()
    assert is_refused(plain / "in", access, danger)
    assert is_refused(plain, access, danger)
    assert reasons(plain / "in", access, danger) == []
    assert reasons(plain / "beside", access) == []
    if access is WRITTEN:
        assert reasons(plain / "in", READ) == []
        (plain / "beside/back").symlink_to(home.parent)
        (home / link).unlink()
        (home / link).symlink_to(plain / "beside/back/elsewhere")
        assert is_refused(plain / "beside", access, danger)


@pytest.mark.parametrize(
    ("name", "access", "danger"), [(".ssh/id", READ, Danger.CREDENTIALS), ("bin/x", WRITTEN, Danger.CODE)]
)
def test_a_hard_link_of_what_lies_in_a_place(
    home: Path, plain: Path, name: str, access: Access, danger: Danger
) -> None:
    (home / name).parent.mkdir()
    (home / name).touch()
    (plain / "in").mkdir()
    (plain / "in/notes").hardlink_to(home / name)
    assert [why.partition(",")[0] for why in reasons(plain, access)] == [f"it holds {home}/{name} by another name"]
    assert reasons(plain, access, danger) == []


def test_a_link_in_a_directory_that_a_variable_names(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain / "bin").mkdir()
    (plain / "in").mkdir()
    (plain / "bin/tool").symlink_to("../in/tool")
    monkeypatch.setenv("PATH", f"{plain}/bin")
    assert is_refused(plain / "in", WRITTEN, Danger.CODE)
    assert reasons(plain / "in", READ) == []


def test_names_of_a_home_are_plain_elsewhere(plain: Path) -> None:
    for name in HOME_CODE - CREDENTIALS - CODE - {"snap", ".var"}:
        (plain / name).mkdir(parents=True)
    assert reasons(plain, WRITTEN) == []


def test_places_of_the_system() -> None:
    for place in filter(os.path.isdir, SYSTEM_CODE):
        share = Share(os.path.realpath(place), "/data", WRITTEN)
        for host in (share.host, f"{share.host}/in/it"):
            with pytest.raises(RefusedError, match=r"user-code|mvm itself is run from"):
                refuse_dangers(replace(share, host=host), None, ())


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize("variable", MOVED)
def test_a_variable_moves_a_place(plain: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """What it names is found, by the word of what lies there by default; so is another path in the same value."""
    prefix = MOVED[variable]
    names = {name for name in CREDENTIALS | CODE | HOME_CODE if not prefix or is_within(name, prefix)}
    assert names, "a name of the tables, or what is above one"
    monkeypatch.setenv(variable, f"{plain}/one:{plain}/other")
    code = set(list_code_places([], os.environ))
    for moved in (plain / "one", plain / "other"):
        places = {str(moved / name.removeprefix(prefix).removeprefix("/")) for name in names}
        assert places <= {*list_credential_places([], os.environ), *code}
        place = min(places)
        Path(place).mkdir(parents=True)
        assert is_refused(moved, WRITTEN, Danger.CODE if place in code else Danger.CREDENTIALS)


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize("variable", CODE_VARIABLES)
def test_a_variable_names_code(plain: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    (plain / "one/in").mkdir(parents=True)
    monkeypatch.setenv(variable, f"relative:/proc/nonexistent::{plain}/two/../one")
    for path in (plain, plain / "one", plain / "one/in"):
        assert is_refused(path, WRITTEN, Danger.CODE)
        assert reasons(path, READ) == []


def existing(places: Iterator[str]) -> list[str]:
    return [place for place in dict.fromkeys(places) if Path(place).is_dir()]


def test_what_mvm_is_run_from() -> None:
    """Of this very process: the package, the virtual environment, directories of modules, interpreter, libraries."""
    parts = {os.path.realpath(part) for part in chain(list_program_trees(), list_program_directories())}
    package = Path(mvmnix.__file__).parent.resolve()
    assert {str(package), str(package.parent), os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)} <= parts
    assert {os.path.realpath(it) for it in sys.path[1:] if it.startswith("/")} <= parts
    assert {str(Path(sys.executable).resolve().parent), str(Path(sys.executable).parent.resolve())} <= parts
    for name in ("_ssl", "click", "cryptography"):
        module = sys.modules.get(name)
        if module is not None and module.__file__ is not None:
            assert any(Path(module.__file__).resolve().is_relative_to(part) for part in parts), name


def test_mvms_own_program_is_not_written() -> None:
    """Whatever the plan acknowledges, neither it nor what holds it; it may be read.

    The places are this process's: other processes of a run have loaded other libraries.
    """
    found = existing(chain(list_program_trees(), list_program_directories()))
    assert found
    for path in {it for place in found for it in (Path(place).resolve(), Path(place).resolve().parent)}:
        share = Share(str(path), "/data", WRITTEN, acknowledged=EVERY)
        with pytest.raises(RefusedError, match="mvm itself is run from") as refused:
            refuse_dangers(share, None, ())
        assert "acknowledge" not in refused.value.hint
        with pytest.raises(RefusedError) as refused:
            refuse_dangers(replace(share, acknowledged=tuple(it for it in EVERY if it is not Danger.CODE)), None, ())
        assert len(refused.value.reasons) == 1, "and no hint at a word that wouldn't help"
        refuse_dangers(replace(share, access=READ), None, ())


def test_mvms_own_program_by_another_name() -> None:
    """As a bind mount is one, or a directory that was moved."""
    fd = os.open(f"/proc/self/root{Path(mvmnix.__file__).resolve().parent / 'launch'}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(RefusedError, match="mvm itself is run from"):
            refuse_dangers(Share("/srv/elsewhere", "/data", WRITTEN, acknowledged=EVERY), fd, ())
    finally:
        os.close(fd)


def test_nor_is_what_lies_in_it() -> None:
    for place in existing(list_program_trees()):
        share = Share(f"{os.path.realpath(place)}/in/it", "/data", WRITTEN, acknowledged=EVERY)
        with pytest.raises(RefusedError, match="mvm itself is run from"):
            refuse_dangers(share, None, ())


def test_an_entry_script_and_what_its_first_line_names(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link in a directory of PATH to a script of another one, whose interpreter is a link in a third."""
    for name in ("bin", "venv", "python", "real"):
        (plain / name).mkdir()
    (plain / "real/python3.13").touch()
    (plain / "python/python3").symlink_to("../real/python3.13")
    (plain / "venv/mvm").write_text(f"#!{plain}/python/python3 -I\n")
    (plain / "bin/mvm").symlink_to("../venv/mvm")
    (plain / "bin/data").mkdir()
    monkeypatch.setenv("PATH", f"{plain}/bin")
    for name in ("bin", "venv", "python", "real", "."):
        assert reasons(plain / name, WRITTEN, *EVERY), name
    assert reasons(plain / "bin/data", WRITTEN, *EVERY) == [], "beside it"


def test_a_directory_of_modules_by_links(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may change the second link says which modules are found."""
    for name in ("one", "two", "modules"):
        (plain / name).mkdir()
    (plain / "two/link").symlink_to("../modules")
    (plain / "one/link").symlink_to("../two/link")
    monkeypatch.setattr(sys, "path", [*sys.path, f"{plain}/one/link"])
    for name in ("one", "two", "modules"):
        assert reasons(plain / name, WRITTEN, *EVERY), name


def test_links_on_the_way(plain: Path) -> None:
    (plain / "a").mkdir()
    (plain / "b").symlink_to("a")
    (plain / "a/loop").symlink_to("../b/loop")
    (plain / "a/file").symlink_to("../b/../b/target")
    assert list(follow_links(f"{plain}/b/file")) == [
        *(f"{plain}/{name}" for name in ("b", "a/file", "b", "b", "a/target"))
    ]
    assert f"{plain}/a/loop" in follow_links(f"{plain}/a/loop"), "it ends"


@pytest.mark.parametrize("is_safe", [False, True])
def test_a_script_that_uses_mvm(plain: Path, monkeypatch: pytest.MonkeyPatch, *, is_safe: bool) -> None:
    """Its directory is its author's: a word covers it. With -P or -I there is none, and libraries alone are listed."""
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith("_")}
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**flags | {"safe_path": is_safe}))
    monkeypatch.setattr(sys, "path", [str(plain), *sys.path[1:]])
    assert is_refused(plain, WRITTEN, Danger.CODE) != is_safe
    assert bool(reasons(plain, WRITTEN, Danger.CODE)) == is_safe
