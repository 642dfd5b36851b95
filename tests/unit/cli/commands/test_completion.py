"""Completion: what a shell that asks is told, quickly, and that to ask changes nothing and fails silently."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mvmnix.cli import main as door
from mvmnix.cli.main import COMMANDS
from mvmnix.errors import MvmnixError
from mvmnix.images.prune import KeptImages
from mvmnix.model import FlakeRef
from tests.patience import until
from tests.unit.cli.machines import launched
from tests.unit.cli.plans import sign_plan
from tests.unit.cli.station import Said, Station


def asked(station: Station, *words: str, shell: str = "bash") -> Said:
    """What a shell is told about the last of these words, which is not complete."""
    with station.monkeypatch.context() as patched:
        patched.setenv("HOME", str(station.home))
        patched.setenv("_MVM_COMPLETE", f"{shell}_complete")
        patched.setenv("COMP_WORDS", " ".join(("mvm", *words)))
        patched.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
        return station.mvm()


def offered(station: Station, *words: str) -> list[str]:
    said = asked(station, *words)
    assert (said.code, said.err) == (0, "")
    kinds = [line.partition(",") for line in said.out.splitlines() if line]
    assert {kind for kind, _, _ in kinds} <= {"plain"}
    return [value for _, _, value in kinds]


def snapshot(station: Station) -> dict[str, tuple[int, int]]:
    return {str(it): (it.lstat().st_mtime_ns, it.lstat().st_ino) for it in station.home.rglob("*")}


def test_commands_and_options(settled: Station) -> None:
    assert offered(settled, "p") == ["pause", "pin", "plan", "policy", "pool", "port", "ps", "pull"]
    assert offered(settled, "") == sorted(COMMANDS)
    assert offered(settled, "plan", "") == ["create", "ls", "rm", "show", "sign"]
    assert "--follow" in offered(settled, "logs", "--f")
    assert offered(settled, "run", "--backend", "q") == ["qemu"]
    assert offered(settled, "completion", "") == ["bash", "zsh", "fish"]
    assert offered(settled, "pause", "-x") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_a_command_is_for(settled: Station, shell: str) -> None:
    words = asked(settled, "pau", shell=shell).out
    assert "pause" in words
    assert COMMANDS["pause"][2] in words


def test_machines_by_what_a_command_takes(settled: Station) -> None:
    settled.mvm("run", "--name", "old", settled.flake(), "--", "true")
    living = launched(settled, "linger", name="web")
    until((settled.state / "machines" / living / "output.log").exists)  # the last that it makes
    before = snapshot(settled)
    assert sorted(offered(settled, "logs", "")) == ["old", "web"]  # both may be of one second, and have no order then
    for command in ("stop", "exec", "pause"):
        assert offered(settled, command, "") == ["web"]
    assert offered(settled, "rm", "") == ["old"]
    assert offered(settled, "start", "") == []
    assert offered(settled, "logs", "w") == ["web"]
    assert snapshot(settled) == before
    settled.mvm("kill", living)


def test_images_and_plans(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello")
    before = snapshot(settled)
    assert offered(settled, "image", "rm", "") == ["builder", "hello"]
    assert offered(settled, "image", "inspect", "h") == ["hello"]
    (digest,) = (it.name[:12] for it in (settled.state / "plans").iterdir())
    assert offered(settled, "plan", "rm", "") == [digest]
    assert snapshot(settled) == before


def test_files_are_the_shell_s(settled: Station) -> None:
    assert asked(settled, "launch", "pl").out == "file,pl\n"
    assert asked(settled, "run", "./ex").out == "dir,./ex\n"
    assert asked(settled, "plan", "create", "--out", "x").out == "file,x\n"


FLAKE = "{ outputs = { m, ... }: rec { hello = m.mkGuest { }; helper=m.mkGuest{}; tools = m.mkOciGuest { }; }; }"


def flake_of(station: Station, name: str = "guest", text: str = FLAKE) -> Path:
    path = station.flake_file(station.path / "flakes", name)
    (path / "flake.nix").write_text(text)
    return path


def test_attributes_that_are_written_in_the_flake(settled: Station) -> None:
    path = flake_of(settled)
    settled.monkeypatch.chdir(path)
    before = snapshot(settled)
    for command in (["build"], ["run"], ["plan", "create"]):
        assert offered(settled, *command, ".#he") == [".#hello", ".#helper"]
    assert offered(settled, "build", "#t") == []  # a shell takes it for a comment
    assert offered(settled, "build", f"{path}#t") == [f"{path}#tools"]
    assert offered(settled, "build", "../guest#x") == []
    assert offered(settled, "build", f"path:{path}#") == [f"path:{path}#{it}" for it in ("hello", "helper", "tools")]
    assert offered(settled, "build", f"path:{path.parent}?dir=guest#t") == [f"path:{path.parent}?dir=guest#tools"]
    assert asked(settled, "run", "./ex").out == "dir,./ex\n"
    assert snapshot(settled) == before


def test_attributes_below_home(settled: Station) -> None:
    settled.monkeypatch.setattr("mvmnix.system.checkouts.home_of", lambda _: str(settled.home))
    (settled.home / "flake.nix").write_text(FLAKE)
    assert offered(settled, "build", "~#t") == ["~#tools"]
    settled.flake_file(settled.home, "it").joinpath("flake.nix").write_text(FLAKE)
    assert offered(settled, "build", "~/it#t") == ["~/it#tools"]


def test_attributes_of_which_an_image_is_kept(settled: Station) -> None:
    """They count where the tree, the directory in it and the lock are called as they were; the text may say nothing."""
    path = flake_of(settled, text="{ outputs = import ./outputs.nix; }")
    settled.built(FlakeRef(str(path), "tools.held", copy=True), "held")
    settled.built(FlakeRef(str(path), copy=True), "default")
    (path / "sub").mkdir()
    (path / "sub/flake.nix").write_text("{ }")
    settled.built(FlakeRef(str(path), "below", copy=True, subdirectory="sub"), "below")
    before = snapshot(settled)
    assert offered(settled, "build", f"{path}#") == [f"{path}#default", f"{path}#tools.held"]
    assert offered(settled, "run", f"path:{path}?dir=sub#") == [f"path:{path}?dir=sub#below"]
    (path / ".git").mkdir()
    assert offered(settled, "run", f"{path}/sub#") == [f"{path}/sub#below"]
    assert offered(settled, "build", f"{flake_of(settled, 'other', '{ }')}#") == []
    (path / "flake.nix").write_text(FLAKE)
    assert offered(settled, "build", f"{path}#t") == [f"{path}#tools.held", f"{path}#tools"]
    assert snapshot(settled) == before
    (path / "flake.lock").write_text("{ }")
    assert offered(settled, "build", f"{path}#t") == [f"{path}#tools"]


def test_an_index_that_cannot_be_read_hides_nothing_else(settled: Station) -> None:
    path = flake_of(settled)
    settled.built(FlakeRef(str(path), "held", copy=True), "held")
    for bundle in (settled.state / "bundles").iterdir():
        bundle.chmod(0o600)
        bundle.write_bytes(b"{")
    assert offered(settled, "build", f"{path}#h") == [f"{path}#hello", f"{path}#helper"]
    (settled.state / "builds" / ("0" * 64)).write_text("{")
    assert offered(settled, "build", f"{path}#h") == [f"{path}#hello", f"{path}#helper"]


def link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def large(path: Path) -> None:
    path.write_text(path.read_text() + " " * 2**20)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [link, large, fifo, directory, Path.unlink])
def test_no_flake_that_is_read_here(settled: Station, change: Callable[[Path], None]) -> None:
    path = flake_of(settled)
    settled.built(FlakeRef(str(path), "held", copy=True), "held")
    assert offered(settled, "build", f"{path}#") != []
    change(path / "flake.nix")
    assert offered(settled, "build", f"{path}#") == []


def test_another_user_s_flake_is_not_read(settled: Station) -> None:
    path = flake_of(settled)
    other = (path / "flake.nix").stat().st_uid + 1
    settled.monkeypatch.setattr("mvmnix.api.names.os", SimpleNamespace(**vars(os) | {"geteuid": lambda: other}))
    assert offered(settled, "build", f"{path}#") == []


@pytest.mark.parametrize(
    "text", ["oci://x#", "image:x#", "https://host.test/x#", "'a b#", "$HOME#", "./*#", "./none#", "a,b#"]
)
def test_what_names_no_flake(settled: Station, text: str) -> None:
    settled.monkeypatch.chdir(flake_of(settled))
    for name in ("a b", "a,b"):
        flake_of(settled, f"guest/{name}")
    assert offered(settled, "run", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "packages.x86_64-linux.good = mkGuest {",
        "good\n  =\n  mvmnix.lib.mkGuest (",
        "good = mvmnix.lib.mkOciGuest {",
        'good = mkGuest; it\'s = mkGuest; -x = mkGuest; "a b" = mkGuest; ${bad} = mkGuest',
        "good = mkGuest; bad == mkGuest; bad = mkGuestly; bad = f.mk; bad = 1",
    ],
)
def test_names_that_are_bound_to_a_guest(settled: Station, text: str) -> None:
    """None among them that a shell would take for its own."""
    assert offered(settled, "build", f"{(path := flake_of(settled, text=text))}#") == [f"{path}#good"]


def test_a_long_text_is_searched_at_once(settled: Station) -> None:
    text = ("a" * 64 + " " * 64) * 8000
    assert offered(settled, "build", f"{flake_of(settled, text=text)}#") == []


def test_a_checkout_does_not_bring_its_own_images(settled: Station) -> None:
    """As for every command: what HOME and the like say is refused where it lies in the flake's tree."""
    path = flake_of(settled)
    (path / ".git").mkdir()
    settled.monkeypatch.setenv("XDG_STATE_HOME", str(path / "state"))
    (path / "state/mvmnix").mkdir(parents=True, mode=0o700)
    assert offered(settled, "build", f"{path}#") == []


def test_attributes_before_anything_is_kept(station: Station) -> None:
    path = flake_of(station)
    before = snapshot(station)
    assert offered(station, "build", f"{path}#t") == [f"{path}#tools"]
    assert snapshot(station) == before


def test_kept_images_in_the_place_of_a_flake(settled: Station) -> None:
    settled.flake()
    assert offered(settled, "run", "image:h") == ["image:hello"]
    assert offered(settled, "plan", "create", "image:") == ["image:builder", "image:hello"]
    assert asked(settled, "build", "image:h").out == "dir,image:h\n"


def test_what_a_shell_would_take_for_its_own_is_not_offered(settled: Station) -> None:
    settled.flake()
    settled.monkeypatch.setattr(
        KeptImages, "names", lambda _: frozenset({"a b", "$(id)", "*", "a,b", "-x", "good", ""})
    )
    assert offered(settled, "image", "rm", "") == ["good"]


@pytest.mark.parametrize("command", ["logs", "image rm", "plan rm"])
@pytest.mark.parametrize("state", ["none", "empty", "closed"])
def test_where_nothing_is_kept_or_can_be_read(station: Station, command: str, state: str) -> None:
    if state != "none":
        station.state.mkdir(parents=True, mode=0o700 if state == "empty" else 0o777)
    if state == "closed":
        station.state.chmod(0o777)  # others may write there: it is refused
    before = snapshot(station) if station.home.exists() else {}
    assert offered(station, *command.split(), "") == []
    assert (snapshot(station) if station.home.exists() else {}) == before


@pytest.mark.parametrize("value", ["bash_complete", "bash_source", "nonsense_complete", "", "bash"])
def test_what_fails_is_silent(settled: Station, value: str) -> None:
    with settled.monkeypatch.context() as patched:
        patched.setenv("_MVM_COMPLETE", value)
        patched.delenv("COMP_WORDS", raising=False)
        assert settled.mvm() == Said(0, "", "")


@pytest.mark.parametrize("value", ["bash_complete", "bash_source", "nonsense"])
def test_a_command_is_run_whatever_the_variable_says(settled: Station, value: str) -> None:
    """A verification that was not done is no success."""
    commands = (("verify", "./nothing"), ("run", "./nothing"), ("ps", "--quiet"), ("--version",))
    expected = [settled.mvm(*command) for command in commands]
    settled.monkeypatch.setenv("_MVM_COMPLETE", value)
    assert [settled.mvm(*command) for command in commands] == expected
    assert [said.code == 0 for said in expected] == [False, False, True, True]


def test_root_is_left_before_anything_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    monkeypatch.setenv("_MVM_COMPLETE", "bash_complete")
    monkeypatch.setattr("mvmnix.cli.commands.completion.answer_shell", lambda *_: said.append("answered"))
    with pytest.raises(SystemExit) as ended:
        door._complete(lambda: said.append("left"))
    assert (ended.value.code, said) == (0, ["left", "answered"])


def test_where_root_can_not_be_left_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def stays() -> None:
        raise MvmnixError("there is no such user")

    monkeypatch.setenv("_MVM_COMPLETE", "bash_complete")
    monkeypatch.setattr("mvmnix.cli.commands.completion.answer_shell", lambda *_: pytest.fail("it is root's process"))
    with pytest.raises(SystemExit):
        door._complete(stays)
