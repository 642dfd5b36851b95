"""Taking a flake's root tree: a clean commit or an explicit copy, byte for byte; nothing of it is run."""

import os
import stat
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.builder.flakes import flake_source as flake
from mvmnix.builder.flakes import git
from mvmnix.builder.flakes.flake_source import FlakeSource, take_flake
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats import nar
from mvmnix.formats.escaping import shell_word
from mvmnix.model import FlakeRef
from mvmnix.sandbox.trusted_executables import GIT
from tests.fakes import Repository
from tests.support.locks import GITHUB, lock_file

NO_INPUTS = lock_file({}).decode()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "repo", {"a.txt": "a\n", "sub/flake.nix": "{ }\n", "sub/flake.lock": NO_INPUTS})


def refused(where: Path | str) -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        take_flake(FlakeRef.parse(str(where)))
    assert refusal.value.reasons[0].hint
    return refusal.value


def archive(entries: dict[bytes, nar.Node]) -> bytes:
    return b"".join(nar.nar_of_tree(nar.Dir(entries)))


def text(data: str) -> nar.File:
    return nar.File.of(data.encode())


def test_a_clean_commit(repository: Repository) -> None:
    found = take_flake(FlakeRef(str(repository.path)))
    sub = nar.Dir({b"flake.nix": text("{ }\n"), b"flake.lock": text(NO_INPUTS)})
    assert found.archive == archive({b"flake.nix": text("{}\n"), b"a.txt": text("a\n"), b"sub": sub})
    assert found.nar == Digest.of(found.archive)
    commit = repository.git("rev-parse", "HEAD")
    assert (found.commit, found.uri) == (commit, f"git+file:repo?rev={commit}")
    assert (found.directory, found.lock) == ("", None)
    assert found.store_path.name == "source"


def test_a_subdirectory_is_a_flake_of_the_whole_tree(repository: Repository) -> None:
    whole, sub = (take_flake(FlakeRef(str(repository.path / name))) for name in (".", "sub"))
    assert (sub.directory, sub.lock) == ("sub", NO_INPUTS.encode())
    assert (sub.nar, sub.commit, sub.uri) == (whole.nar, whole.commit, whole.uri)


def test_a_symbolic_link_to_the_directory_is_followed(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("repo/sub")
    assert take_flake(FlakeRef(str(tmp_path / "link"))).directory == "sub"


def test_untracked_and_ignored_files_are_no_part_of_it(repository: Repository) -> None:
    clean = take_flake(FlakeRef(str(repository.path)))
    repository.write("untracked", "new")
    repository.write(".git/info/exclude", "ignored")
    repository.write("ignored", "build product")
    assert take_flake(FlakeRef(str(repository.path))) == clean


@pytest.mark.parametrize("where", ["new", "new/er"])
def test_a_flake_that_git_does_not_track(repository: Repository, where: str) -> None:
    """The commit is what is taken; so says Nix, too, and names `git add`."""
    path = repository.write(f"{where}/flake.nix", "{ }").parent
    error = refused(path)
    assert error.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    assert "the one in the directory is not tracked by git" in str(error)
    assert f"git -C {path} add flake.nix, and commit it" in str(error)
    copy = f"path:{repository.path}?dir={where}"
    assert copy in str(error)
    assert take_flake(FlakeRef.parse(copy)).directory == where
    repository.commit()
    assert take_flake(FlakeRef.parse(str(path))).directory == where


@pytest.mark.parametrize(("where", "name"), [("", "a.txt"), ("", "sub/flake.nix"), ("sub", "sub/flake.lock")])
@pytest.mark.parametrize("staged", [False, True])
def test_a_change_inside_is_refused(repository: Repository, where: str, name: str, staged: bool) -> None:
    repository.write(name, "changed")
    if staged:
        repository.git("add", "-A")
    refusal = refused(repository.path / where)
    assert refusal.codes == (ReasonCode.FLAKE_DIRTY,)
    assert name in refusal.reasons[0].why


@pytest.mark.parametrize(("where", "name"), [("", "a.txt"), ("sub", "sub/flake.lock")])
def test_the_hint_of_a_dirty_tree_is_a_reference_that_works(repository: Repository, where: str, name: str) -> None:
    repository.write(name, "changed")
    hint = refused(repository.path / where).reasons[0].hint
    reference = f"path:{repository.path}" + (f"?dir={where}" if where else "")
    assert f"copy: {shell_word(reference)}" in hint
    found = take_flake(FlakeRef.parse(reference))
    assert b"changed" in found.archive
    assert found.directory == where


@pytest.mark.parametrize("change", ["modified", "staged", "removed", "renamed", "mode", "new", "link", "submodule"])
def test_a_change_elsewhere_leaves_the_commit_as_it_is(repository: Repository, change: str) -> None:
    clean = take_flake(FlakeRef(str(repository.path / "sub")))
    path = repository.path / "a.txt"
    names: tuple[str, ...] = ("a.txt",)
    match change:
        case "removed":
            path.unlink()
        case "renamed":
            repository.git("mv", "a.txt", "subordinate")
            names = ("a.txt", "subordinate")
        case "mode":
            path.chmod(0o755)
        case "new":
            repository.write("sub.txt", "new")
            names = ("sub.txt",)
        case "link":
            path.unlink()
            path.symlink_to("sub/flake.nix")
        case "submodule":
            Repository.make(repository.path / "module")
            names = ("module",)
        case _:
            path.write_text("changed")
    if change not in {"modified", "mode"}:
        repository.git("add", "-A")
    found = take_flake(FlakeRef(str(repository.path / "sub")))
    assert found == replace(clean, changes_elsewhere=names)
    assert clean.changes_elsewhere == ()


@pytest.mark.parametrize("is_leaving", [False, True])
def test_a_file_that_moves_across_the_border_is_a_change_inside(repository: Repository, *, is_leaving: bool) -> None:
    names = ("sub/flake.lock", "flake.lock") if is_leaving else ("a.txt", "sub/a.txt")
    repository.git("mv", *names)
    refusal = refused(repository.path / "sub")
    assert refusal.codes == (ReasonCode.FLAKE_DIRTY,)
    assert names[not is_leaving] in refusal.reasons[0].why


def test_a_submodule_elsewhere_hides_no_change_inside(repository: Repository) -> None:
    Repository.make(repository.path / "module")
    repository.git("add", "module")
    repository.write("sub/flake.nix", "changed")
    assert "sub/flake.nix" in refused(repository.path / "sub").reasons[0].why


def test_a_directory_whose_place_another_takes(repository: Repository) -> None:
    repository.git("mv", "sub", "other")
    (repository.path / "sub").symlink_to("other")
    assert "other/flake.nix" in refused(repository.path / "sub").reasons[0].why


RELATIVE_INPUTS = lock_file(
    {
        "lib": {
            "inputs": {"deep": "deep", "far": "far"},
            "locked": {"path": "../lib", "type": "path", "dir": "flake"},
            "original": {"path": "../lib", "type": "path", "dir": "flake"},
            "parent": [],
        },
        "deep": {
            "locked": {"path": "../../deep", "type": "path"},
            "original": {"path": "../../deep", "type": "path"},
            "flake": False,
            "parent": ["lib"],
        },
        "far": {"locked": GITHUB, "original": {"type": "github", "owner": "NixOS", "repo": "nixpkgs"}},
        "near": {
            "locked": {"path": "./other", "type": "path"},
            "original": {"path": "./other", "type": "path"},
            "parent": ["lib", "far"],
        },
    },
    {"lib": "lib", "near": "near"},
).decode()


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("sub/new", True),
        ("lib/beside", True),  # the input's tree, whatever directory of it the flake is in
        ("lib/flake/flake.nix", True),
        ("deep", True),  # of a relative input; a file
        ("other/file", False),  # in the tree of a forge
        ("library", False),
        ("flake.nix", False),
    ],
)
def test_relative_inputs_are_read(tmp_path: Path, name: str, is_read: bool) -> None:
    files = ("sub/flake.nix", "lib/beside", "lib/flake/flake.nix", "deep", "other/file", "library")
    repository = Repository.make(tmp_path / "repo", {**dict.fromkeys(files, "{}"), "sub/flake.lock": RELATIVE_INPUTS})
    repository.write(name, "changed")
    repository.git("add", "-A")
    if is_read:
        assert refused(repository.path / "sub").codes == (ReasonCode.FLAKE_DIRTY,)
    else:
        assert take_flake(FlakeRef(str(repository.path / "sub"))).changes_elsewhere == (name,)


def test_a_tree_with_more_links_than_are_followed_is_read_whole(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (repository.path / f"sub/link{number}").symlink_to("flake.nix")
    repository.commit()
    repository.write("a.txt", "changed")
    assert take_flake(FlakeRef(str(repository.path / "sub"))).changes_elsewhere == ("a.txt",)
    monkeypatch.setattr(flake, "_MAX_STEPS", 3)
    assert refused(repository.path / "sub").codes == (ReasonCode.FLAKE_DIRTY,)


def test_links_that_lead_up_from_every_level_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory is found from the one in it; nothing is kept for each link and each level."""
    inner: dict[bytes, nar.Node] = {b"a%d" % number: nar.Symlink(b"nowhere") for number in range(500)}
    inner[b"zz"] = nar.Symlink(b"..")
    for _ in range(90):
        inner = {b"deeper": nar.Dir(inner), b"zz": nar.Symlink(b"..")}
    start = b"/".join([b"deeper"] * 90)
    monkeypatch.setattr(flake, "_MAX_STEPS", 500)
    tracemalloc.start()
    try:
        assert flake._reachable(nar.Dir(inner), [start]) == {b""}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_directory_is_walked_once_from_wherever_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, resolve = list[bytes](), flake._resolve

    def noted(tree: nar.Dir, path: bytes) -> Iterator[tuple[bytes, nar.Node | None]]:
        starts.append(path)
        return resolve(tree, path)

    monkeypatch.setattr(flake, "_resolve", noted)
    inner: dict[bytes, nar.Node] = {b"a": nar.Symlink(b"nowhere"), b"zz": nar.Symlink(b"..")}
    for _ in range(3):
        inner = {b"in": nar.Dir(inner), b"zz": nar.Symlink(b"..")}
    found = flake._reachable(nar.Dir(inner), [b"in/in/in"])
    assert {b"in/in/in", b"in/in", b"in", b""} <= found
    assert sorted(starts) == [b"in/in/in", b"in/in/in/a", b"in/in/in/zz", b"in/in/zz", b"in/zz", b"zz"]


@pytest.mark.parametrize("name", [b"n" * 5_000, b"n" * 2_000])
def test_a_path_that_no_file_can_have_is_read_whole(name: bytes) -> None:
    inner = nar.Dir({name: nar.Dir({name: nar.Dir({name: nar.Symlink(b"x")})})})
    assert flake._reachable(nar.Dir({b"sub": inner}), [b"sub"]) == {b""}


@pytest.mark.parametrize("path", ["..", "../..", "../sub/../"])
def test_an_input_that_is_the_whole_tree(repository: Repository, path: str) -> None:
    node = {"locked": {"path": path, "type": "path"}, "original": {"path": path, "type": "path"}, "parent": []}
    repository.write("sub/flake.lock", lock_file({"whole": node}).decode())
    repository.commit()
    repository.write("a.txt", "changed")
    assert "a.txt" in refused(repository.path / "sub").reasons[0].why


@pytest.mark.parametrize("parent", [["missing"], ["loop"]])
def test_an_input_whose_place_nobody_knows(repository: Repository, parent: list[str]) -> None:
    node = {"locked": {"path": "x", "type": "path"}, "original": {"path": "x", "type": "path"}, "parent": parent}
    repository.write("sub/flake.lock", lock_file({"loop": node}).decode())
    repository.commit()
    repository.write("a.txt", "changed")
    assert refused(repository.path / "sub").codes == (ReasonCode.FLAKE_DIRTY,)


def test_a_lock_that_can_t_be_read_beside_a_change(repository: Repository) -> None:
    repository.write("sub/flake.lock", "{}")
    repository.commit()
    repository.write("a.txt", "changed")
    assert set(refused(repository.path / "sub").codes) == {ReasonCode.LOCK_MALFORMED}
    repository.write("sub/flake.lock", NO_INPUTS)
    assert refused(repository.path / "sub").codes == (ReasonCode.FLAKE_DIRTY,)


@pytest.mark.parametrize(
    ("link", "target", "name", "is_read"),
    [
        ("sub/link", "../data", "data/file", True),
        ("sub/link", "../data/file", "data/file", True),
        ("sub/link", "../data/file", "data/other", False),
        ("sub/in/link", "../../data/../data", "data/other", True),
        ("sub/link", "../by", "data/other", True),  # by -> data
        ("sub/link", "../by/file", "by", True),  # the link on the way
        ("sub/link", "../data/up", "a.txt", True),  # data/up -> ..
        ("sub/link", "../missing", "missing/new", True),
        ("sub/link", "../../data", "data/file", False),  # out of the tree
        ("sub/link", "/data", "data/file", False),
        ("sub/link", "link", "data/file", False),
        ("elsewhere", "data", "data/file", False),
    ],
)
def test_symbolic_links_out_of_the_directory_are_followed(
    repository: Repository, link: str, target: str, name: str, is_read: bool
) -> None:
    for path, content in {"data/up": "..", "by": "data", link: target}.items():
        (repository.path / path).parent.mkdir(exist_ok=True)
        (repository.path / path).symlink_to(content)
    repository.write("data/file", "x")
    repository.write("data/other", "x")
    repository.commit()
    if (repository.path / name).is_symlink():
        (repository.path / name).unlink()
    repository.write(name, "changed")
    repository.git("add", "-A")
    if is_read:
        assert name in refused(repository.path / "sub").reasons[0].why
    else:
        assert take_flake(FlakeRef(str(repository.path / "sub"))).changes_elsewhere == (name,)


@pytest.mark.parametrize("change", ["removed", "renamed", "mode", "new", "removed-staged", "intent-to-add"])
def test_every_kind_of_change_counts(repository: Repository, change: str) -> None:
    match change:
        case "removed":
            (repository.path / "a.txt").unlink()
        case "renamed":
            repository.git("mv", "a.txt", "b.txt")
        case "mode":
            (repository.path / "a.txt").chmod(0o755)
        case "removed-staged":
            repository.git("rm", "-q", "--cached", "a.txt")
        case "intent-to-add":
            repository.write("new.txt", "new")
            repository.git("add", "-N", "new.txt")
        case _:
            repository.write("new.txt", "new")
            repository.git("add", "new.txt")
    refusal = refused(repository.path)
    assert refusal.codes == (ReasonCode.FLAKE_DIRTY,)
    assert ".txt" in refusal.reasons[0].why


def test_many_changes_are_not_all_listed(repository: Repository) -> None:
    for number in range(9):
        repository.write(f"new{number}", "")
    repository.git("add", "-A")
    why = refused(repository.path).reasons[0].why
    assert why.endswith("new0, new1, new2, new3, new4 …")


def test_names_executables_and_links_are_as_in_the_commit(tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "repo")
    names = [
        b"\xff\xfe",
        "ü".encode(),
        b"a b",
        b"new\nline",
        b"-rf",
        b"tab\t",
        b'quote"',
        b"back\\slash",
        b"a.b",
        b"a0",
    ]
    for name in names:
        Path(os.fsdecode(os.fsencode(repository.path) + b"/" + name)).write_bytes(name)
    repository.write("a/z", "z")
    repository.write("run", "#!/bin/sh\n").chmod(0o755)
    (repository.path / "link").symlink_to("/etc/passwd")
    (repository.path / "broken").symlink_to("no\nwhere")
    repository.commit()
    entries: dict[bytes, nar.Node] = {name: nar.File.of(name) for name in names}
    entries |= {b"flake.nix": text("{}\n"), b"a": nar.Dir({b"z": text("z")})}
    entries |= {b"run": nar.File.of(b"#!/bin/sh\n", executable=True)}
    entries |= {b"link": nar.Symlink(b"/etc/passwd"), b"broken": nar.Symlink(b"no\nwhere")}
    assert take_flake(FlakeRef(str(repository.path))).archive == archive(entries)


def test_an_odd_name_of_the_directory_is_made_harmless(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 & co"))
    commit = Repository.make(odd).git("rev-parse", "HEAD")
    assert take_flake(FlakeRef(str(odd))).uri == f"git+file:caf____co?rev={commit}"
    assert take_flake(FlakeRef(str(odd), copy=True)).uri == "path:caf____co"


def test_an_odd_name_within_the_tree_is_refused(tmp_path: Path) -> None:
    Repository.make(tmp_path / "repo", {"a b/flake.nix": "{}"})
    refusal = refused(tmp_path / "repo/a b")
    assert refusal.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    assert "unusual characters" in refusal.reasons[0].why


def test_no_work_tree_no_commit_no_flake(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/flake.nix").write_text("{}")
    assert "not a git repository" in refused(tmp_path / "plain").reasons[0].why
    Repository(tmp_path / "plain").git("init", "-q")
    assert "not a git work tree with a commit" in refused(tmp_path / "plain").reasons[0].why
    Repository(tmp_path).git("init", "-q", "--bare", "bare.git")
    assert refused(tmp_path / "bare.git").codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    repository = Repository.make(tmp_path / "repo")
    repository.write("new/flake.nix", "{}")  # never added, and so not there
    assert "there is no flake.nix" in refused(tmp_path / "repo/new").reasons[0].why
    repository.git("mv", "flake.nix", "other.nix")
    repository.commit()
    assert refused(repository.path).codes == (ReasonCode.FLAKE_UNSUPPORTED,)


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text("{}")
    for name in ("flake.nix", "absent"):
        with pytest.raises(MvmnixError, match="is not a directory"):
            take_flake(FlakeRef(str(tmp_path / name)))


def test_without_git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "GIT", replace(GIT, paths=("/proc/nonexistent",)))
    with pytest.raises(MvmnixError) as error:
        take_flake(FlakeRef(str(repository.path)))
    assert not isinstance(error.value, RefusedError)
    assert error.value.hint == "apt-get install git"


def test_a_tree_that_is_too_large(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flake, "LIMIT", 100)
    for reference in (str(repository.path), f"path:{repository.path}"):
        refusal = refused(reference)
        assert refusal.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
        assert "larger than 100 bytes" in refusal.reasons[0].why


def test_a_copy_is_taken_as_it_lies_there(tmp_path: Path) -> None:
    top = tmp_path / "copy"
    (top / "in").mkdir(parents=True)
    (top / "in/flake.nix").write_text("{}")
    (top / "run").write_text("x")
    (top / "run").chmod(0o744)
    (top / "link").symlink_to("in")
    found = take_flake(FlakeRef.parse(f"path:{top}?dir=in"))
    run = nar.File.of(b"x", executable=True)
    wanted: dict[bytes, nar.Node] = {
        b"in": nar.Dir({b"flake.nix": text("{}")}),
        b"run": run,
        b"link": nar.Symlink(b"in"),
    }
    assert found.archive == archive(wanted)
    assert (found.uri, found.commit, found.directory, found.lock) == ("path:copy", None, "in", None)
    assert take_flake(FlakeRef.parse(f"path:{top}?dir=in#other")) == found


def test_a_copy_of_a_dirty_work_tree_is_allowed(repository: Repository) -> None:
    repository.write("a.txt", "changed")
    assert take_flake(FlakeRef(str(repository.path), copy=True)).commit is None


def test_a_copy_without_a_flake_or_with_what_no_tree_holds(tmp_path: Path) -> None:
    assert "there is no flake.nix" in refused(f"path:{tmp_path}").reasons[0].why
    (tmp_path / "flake.nix").mkdir()
    assert "there is no flake.nix" in refused(f"path:{tmp_path}").reasons[0].why
    os.mkfifo(tmp_path / "fifo")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert "FIFO" in refused(f"path:{tmp_path}").reasons[0].why


def test_the_lock_file_must_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text("{}")
    (tmp_path / "flake.lock").symlink_to("/etc/passwd")
    found: FlakeSource = take_flake(FlakeRef(str(tmp_path), copy=True))
    assert found.lock is None
