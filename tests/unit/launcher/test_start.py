"""What a start is handed over is judged before anything else: mvm's own directories, the plan, image files, pipes."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api.context import Context
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.control.messages import Stream
from mvmnix.launch.control.own_directories import PROBE
from mvmnix.launch.control.start_messages import Created, Mode
from mvmnix.launch.templates.template import NOTHING_HELD
from mvmnix.launcher import start
from mvmnix.system.store import sealed_memory
from tests.support import forked_launcher
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station
from tests.unit.launcher.requests import REQUEST, ask, handed, replaced
from tests.unit.launcher.talk import stream_socket

Change = Callable[[dict[str, int], Context, Path], None]


def put(name: str, make: Callable[[Context, Path], int]) -> Change:
    """Return what puts a descriptor in the place of another."""
    return lambda found, context, here: replaced(found, name, make(context, here))


def directory_below(name: str, _context: Context, here: Path) -> int:
    """Open a directory of another home's."""
    (here / "other" / name).mkdir(parents=True, exist_ok=True)
    return os.open(here / "other" / name, os.O_RDONLY | os.O_DIRECTORY)


def file_elsewhere(here: Path) -> int:
    """Open a file of the same file system that isn't in the state directory."""
    (here / PROBE).touch()
    return os.open(here / PROBE, os.O_RDWR)


def state_file(context: Context, name: str, flags: int) -> int:
    """Open a file of the state directory, made where it is missing."""
    return os.open(f"{context.roots.state.path}/{name}", flags | os.O_CREAT, 0o600)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(
            (put(name, partial(directory_below, name)), f"the {name} directory")
            for name in ("state", "cache", "config", "data")
        ),
        (put("state", lambda context, _: os.open(context.roots.state.path, os.O_PATH)), "the state directory"),
        (put("state", lambda *_: socket.socket(socket.AF_UNIX).detach()), "the state directory"),
        (put("config", lambda context, _: os.dup(context.roots.state.fd)), "the config directory"),
        (put("probe", lambda _, here: file_elsewhere(here)), "doesn't show that it may write"),
        (put("probe", lambda context, _: state_file(context, "x", os.O_RDWR)), "doesn't show that it may write"),
        (put("probe", lambda context, _: state_file(context, PROBE, os.O_RDONLY)), "doesn't show that it may write"),
        (
            put("probe", lambda context, _: os.open(f"{context.roots.state.path}/{PROBE}", os.O_PATH)),
            "doesn't show that it may write",
        ),
        (put("probe", lambda *_: os.pipe()[1]), "doesn't show that it may write"),
    ],
)
def test_a_caller_that_does_not_reach_mvms_directories_is_refused(
    settled: Station, tmp_path: Path, change: Change, words: str
) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        change(found, context, tmp_path)
        with pytest.raises(RefusedError, match=words) as refused:
            ask(forked_launcher.reach(context.roots, private=False), found)
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


def test_a_probe_that_was_removed_meanwhile_proves_nothing(settled: Station) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        context.roots.state.remove(PROBE)
        with pytest.raises(RefusedError, match="doesn't show that it may write"):
            ask(forked_launcher.reach(context.roots, private=False), found)


def test_directories_that_vanished_are_an_error_of_one_caller(settled: Station, tmp_path: Path) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        Path(context.roots.paths["config"]).rename(tmp_path / "moved")
        with pytest.raises(RefusedError, match="the config directory") as refused:
            ask(forked_launcher.reach(context.roots, private=False), found)
        assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


def unsealed(_context: Context, _here: Path) -> int:
    """Return memory that its writer may change later."""
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x")
    return fd


@pytest.mark.parametrize(
    "make",
    [
        unsealed,
        lambda *_: os.open(__file__, os.O_RDONLY),
        lambda *_: os.open("/", os.O_PATH),
        lambda *_: os.pipe()[0],
        lambda *_: sealed_memory(b"x" * (17 << 20), name="large"),
    ],
    ids=["unsealed", "file", "path", "pipe", "large"],
)
def test_a_plan_is_sealed_memory(settled: Station, tmp_path: Path, make: Callable[[Context, Path], int]) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        replaced(found, "plan", make(context, tmp_path))
        with pytest.raises(UsageError, match="what was handed over for the plan can't be used"):
            ask(forked_launcher.reach(context.roots, private=False), found)


@pytest.mark.parametrize(
    ("flags", "path"),
    [(os.O_RDWR, "/image"), (os.O_WRONLY, "/image"), (os.O_PATH, "/image"), (os.O_RDONLY, "image")],
    ids=["both", "writing", "path", "relative"],
)
def test_an_images_files_are_open_for_reading_alone(settled: Station, tmp_path: Path, flags: int, path: str) -> None:
    (tmp_path / "kernel").touch()
    request = replace(REQUEST, image=("kernel",), image_path=path)
    with settled.rooms() as context, handed(context.roots) as found:
        found["image kernel"] = os.open(tmp_path / "kernel", flags)
        with pytest.raises(UsageError, match="what was handed over for an exported image can't be used"):
            ask(forked_launcher.reach(context.roots, private=False), found, request)


@pytest.mark.parametrize(
    ("stream", "make"),
    [
        (Stream.STDOUT, lambda: os.pipe()[0]),
        (Stream.STDIN, lambda: os.pipe()[1]),
        (Stream.STDIN, lambda: os.open("/dev/null", os.O_RDWR)),
        (Stream.STDOUT, lambda: os.open("/dev/null", os.O_RDWR)),
        (Stream.STDERR, lambda: os.openpty()[1]),
        (Stream.STDOUT, stream_socket),
        (Stream.STDOUT, lambda: os.memfd_create("x")),
    ],
    ids=["wrong end", "other end", "device", "output", "terminal", "socket", "memory"],
)
def test_a_stream_is_a_pipe(settled: Station, stream: Stream, make: Callable[[], int]) -> None:
    request = replace(REQUEST, mode=Mode.ATTACHED, streams=(stream,))
    with settled.rooms() as context, handed(context.roots) as found:
        found[stream] = make()
        with pytest.raises(UsageError, match=f"{stream} is not a pipe that is open for it"):
            ask(forked_launcher.reach(context.roots, private=False), found, request)


def test_what_is_handed_over_rightly_is_taken(settled: Station) -> None:
    plan = signed(settled).read_bytes()
    with settled.rooms() as context, handed(context.roots, plan) as found:
        made = ask(forked_launcher.reach(context.roots, private=False), found, replace(REQUEST, mode=Mode.CREATED))
    assert isinstance(made, Created)


def test_each_failure_is_in_the_log_that_the_caller_is_told_of(settled: Station) -> None:
    with settled.rooms() as context, handed(context.roots) as found, pytest.raises(MvmnixError) as failed:
        ask(forked_launcher.reach(context.roots, private=False), found)
    assert failed.value.exit_code == 126


@pytest.mark.parametrize(
    ("words", "private", "follows"),
    [
        ((), False, True),
        (("--start", "cold"), False, False),
        ((), True, False),
    ],
    ids=["for want of a template", "demanded", "private"],
)
def test_a_machine_that_booted_for_want_of_a_template_is_counted_later(
    settled: Station, words: tuple[str, ...], *, private: bool, follows: bool
) -> None:
    """But not by a launcher that is its caller's child."""
    assert _followed(settled, private=private)("run", settled.flake(), *words, "--", "true") is follows


def test_of_an_exported_image_or_for_a_machine_that_starts_warm_nothing_is_counted(
    settled: Station, tmp_path: Path
) -> None:
    flake, plan, followed = settled.flake(), signed(settled), _followed(settled, private=False)
    assert settled.mvm("build", flake, "--out", tmp_path / "image").code == 0
    assert followed("launch", "--image", tmp_path / "image", plan) is False
    assert settled.mvm("warm", flake).code == 0
    assert followed("run", flake, "--", "true") is False


def _followed(station: Station, *, private: bool) -> Callable[..., bool]:
    """Return what types a command, and says whether something is left to do once its caller was told."""
    station.saves_guests()
    perform, held, path = start.perform, None if private else NOTHING_HELD, station.path / "followed"

    def noted(*given: Any, waiting: Any, **_: Any) -> start.Performed:
        performed = perform(*given, held=held, waiting=waiting)
        path.write_text(str(performed.follow_up is not None))
        return start.Performed(performed.answer)

    station.monkeypatch.setattr(start, "perform", noted)

    def typed(*words: str | Path) -> bool:
        said = station.mvm(*words)
        assert said.code == 0, said.err
        return path.read_text() == "True"

    return typed
