"""Where images come from: what is finished is used again, and of two who build the same one waits for the other."""

import threading
from pathlib import Path

import pytest

from mvmnix.api.image_builder import ImageBuilder, open_image_builder
from mvmnix.api.source_refs import source_ref
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.model import FlakeRef
from mvmnix.system.process import Completed, ProcessError
from tests.fakes import Repository
from tests.integration.misbehaving import Server
from tests.support.frontends import Shown
from tests.support.locks import ASKED, GITHUB, lock_file
from tests.unit.cli.station import Station


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was built anew, which takes no VM here, and makes nothing."""
    made: list[object] = []
    monkeypatch.setattr(ImageBuilder, "_build", lambda _, request, __: made.append(request))
    return made


def commit_all(path: Path) -> None:
    """Have a git repository in a directory, with a commit of all that lies there."""
    repository = Repository(path)
    repository.git("init", "-q")
    repository.commit()


def test_a_finished_build_is_found_and_what_is_not_finished_is_built(settled: Station, built: list[object]) -> None:
    flake = settled.flake()
    with settled.rooms() as rooms:
        images = ImageBuilder(rooms, Shown())
        assert images.image(source_ref(flake)).image.name == "hello"
        assert built == []
        images.image(source_ref(f"{flake}#another"))
        assert len(built) == 1


def test_for_what_is_finished_the_builder_image_is_not_hashed(
    settled: Station, built: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    flake = settled.flake()
    with settled.rooms() as rooms:
        images = ImageBuilder(rooms, Shown())
        with monkeypatch.context() as patched:
            patched.setattr(ImageBuilder, "builder_image", pytest.fail)
            assert images.image(source_ref(flake)).image.name == "hello"
        images.image(source_ref(f"{flake}#another"))
    assert len(built) == 1


def test_a_flake_that_was_taken_before_is_found_finished_without_git_and_built_with_it(
    settled: Station, built: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled.flake_file(settled.path / "flakes", "hello")
    commit_all(path)
    settled.built(FlakeRef(str(path)), "hello")
    with settled.rooms() as rooms:
        images = ImageBuilder(rooms, Shown())
        assert images.image(source_ref(str(path))).image.name == "hello"
        with monkeypatch.context() as patched:
            patched.setattr(ImageBuilder, "request", pytest.fail)
            assert images.image(source_ref(str(path))).image.name == "hello"
        images.image(source_ref(f"{path}#another"))
    (request,) = built
    assert isinstance(request, BuildRequest)
    assert request.flake == take_flake(FlakeRef(str(path)))


def test_what_is_found_is_held_to_the_policy_as_what_is_taken(settled: Station) -> None:
    """An input that is locked to another place than it asks for."""
    path = settled.flake_file(settled.path / "flakes", "hello")
    (path / "flake.lock").write_bytes(lock_file({"other": {"locked": GITHUB, "original": ASKED | {"owner": "other"}}}))
    commit_all(path)
    with settled.rooms() as rooms:
        images = ImageBuilder(rooms, Shown())
        for _ in range(2):
            with pytest.raises(RefusedError) as refusal:
                images.image(source_ref(str(path)))
            assert refusal.value.codes == (ReasonCode.LOCK_SUBSTITUTED,)
        assert rooms.roots.cache.existing("commits").names()


def test_of_two_builds_of_the_same_thing_one_waits_and_finds_it(settled: Station, built: list[object]) -> None:
    """The other holds the lock, and what it made is there only once this one has said that it waits."""
    index, aside = settled.state / "builds", settled.path / "aside"
    before = set(index.iterdir())
    flake = settled.flake()
    (entry,) = set(index.iterdir()) - before
    entry.rename(aside)
    held, said = threading.Event(), threading.Event()
    progress = Shown()
    with settled.rooms() as rooms:

        def other() -> None:
            with rooms.building(entry.name, lambda: None):
                held.set()
                said.wait()
                aside.rename(entry)

        thread = threading.Thread(target=other)
        thread.start()
        held.wait()
        progress.heard = said.set
        found = ImageBuilder(rooms, progress).image(source_ref(flake))
        thread.join()
    assert found.image.name == "hello"
    assert built == []
    assert progress.notices == ["the same is being built already: waiting for it"]


@pytest.mark.parametrize("hint", ["", "give it more"])
def test_a_failed_build_says_where_its_log_is(settled: Station, hint: str) -> None:
    with (
        settled.rooms() as rooms,
        pytest.raises(MvmnixError) as failed,
        open_image_builder(rooms) as images,
    ):
        images.progress.log(b"all that the builder said")
        raise MvmnixError("the build failed", hint=hint)
    (log,) = (settled.state / "logs").iterdir()
    assert log.read_bytes() == b"all that the builder said"
    assert (failed.value.hint, failed.value.log) == (hint, str(log))


def test_all_that_a_failed_child_said_is_in_the_log(settled: Station) -> None:
    """What is shown of it is short: one line of its command, and the cause."""
    argv = ("/n/nix-store", *(f"/nix/store/{number}" for number in range(200)))
    words = b"".join(b"warning: %d\n" % number for number in range(200)) + b"error: no room\n"
    with (
        settled.rooms() as rooms,
        pytest.raises(ProcessError) as failed,
        open_image_builder(rooms),
    ):
        raise ProcessError(Completed(argv, 1, b"", words))
    (log,) = (settled.state / "logs").iterdir()
    assert log.read_bytes() == " ".join(argv).encode() + b"\n" + words
    assert failed.value.log == str(log)
    assert failed.value.message.endswith("\nerror: no room")
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize(
    "error", [UsageError("no such package"), refuse(ReasonCode.LOCK_STALE, "a flake", "it is old", "lock it")]
)
def test_what_a_log_says_nothing_of_names_none(settled: Station, error: MvmnixError) -> None:
    hint = error.hint
    with settled.rooms() as rooms, pytest.raises(type(error)), open_image_builder(rooms):
        raise error
    assert error.hint == hint
    assert list((settled.state / "logs").iterdir()) == []


def test_what_downloads_ends_with_the_work(settled: Station) -> None:
    """A machine is started by forking afterwards, which takes a process with one thread (supervisor.py)."""

    def waiting() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("mvm-")]

    with Server() as server, settled.rooms() as rooms:
        server.routes["/file"] = lambda it: it.answer(b"x")
        config = f'version = 1\n[fetch]\nloopback = ["{server.origin}"]\n'
        rooms.roots.config.write_atomic("config.toml", config.encode())
        with open_image_builder(rooms):
            rooms.network.downloader.get(f"{server.origin}/file", lambda _: None)
            assert waiting()
        assert waiting() == []
