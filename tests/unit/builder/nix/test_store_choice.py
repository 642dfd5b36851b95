"""Which Nix store is used: by what this process may write to and who else may, never by its uid."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given

from mvmnix.builder.nix.store_choice import NixStore, StoreKind, choose
from mvmnix.model import StorePath
from tests.unit.strangers import TEXTS

#: As root, the tests become this one, who is not in any file.
USER = 61_000
ROOT = os.geteuid() == 0
PATH = StorePath("1" * 32, "hello")


@dataclass
class Machine:
    """A machine's /nix in a directory that all can reach; all of it is root's or, by tests of a plain user, ours."""

    path: Path
    asked: int = 0

    def close(self, name: str) -> None:
        """The caller may not write there."""
        directory = self.path / name
        directory.chmod(0o755 if ROOT else 0o555)
        os.chown(directory, os.geteuid(), -1)

    def open(self, name: str) -> None:
        """The caller may."""
        directory = self.path / name
        directory.chmod(0o755)
        if ROOT:
            os.chown(directory, USER, USER)

    def listens(self) -> Path:
        """A file where a daemon's socket would be, which the caller may write to."""
        socket = self.path / "nix/var/nix/daemon-socket/socket"
        socket.parent.mkdir()
        socket.write_text("")
        for name in (socket.parent, socket):
            self.open(str(name.relative_to(self.path)))
        return socket

    def chosen(self, said: str = "no answer") -> NixStore:
        def ask() -> str:
            self.asked += 1
            return said

        with plain_user():
            return choose("/home/u/nix", ask, shared=str(self.path / "nix"))


@contextmanager
def plain_user() -> Iterator[None]:
    """The effective identity alone: access(2) by the real one would be root's."""
    if ROOT:
        os.setegid(USER)
        os.seteuid(USER)
    try:
        yield
    finally:
        if ROOT:
            os.seteuid(0)
            os.setegid(0)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """The plain user may write to all of it."""
    path = Path(tempfile.mkdtemp(prefix="mvmnix-store-", dir="/tmp"))
    path.chmod(0o755)
    for name in ("nix", "nix/store", "nix/var", "nix/var/nix", "nix/var/nix/db"):
        (path / name).mkdir()
        Machine(path).open(name)
    yield Machine(path)
    path.chmod(0o755)
    for directory in path.rglob("*"):
        if directory.is_dir() and not directory.is_symlink():
            directory.chmod(0o755)
    shutil.rmtree(path)


def test_a_store_that_may_be_written_to_is_shared(machine: Machine) -> None:
    store = machine.chosen()
    assert (store.kind, store.root, store.where) == (StoreKind.SHARED, "", "/nix/store")
    assert store.why.startswith(f"uid {USER if ROOT else os.geteuid()} may write to ")
    assert store.options == ("--store", "local", "--option", "build-users-group", "")
    assert store.on_host(PATH) == Path(str(PATH))
    assert machine.asked == 0


@pytest.mark.parametrize("closed", ["nix/store", "nix/var/nix", "nix/var/nix/db"])
def test_a_store_that_may_not_is_not_used(machine: Machine, closed: str) -> None:
    machine.close(closed)
    store = machine.chosen()
    assert (store.kind, store.root, store.where) == (StoreKind.OWN, "/home/u/nix", "/home/u/nix/nix/store")
    assert f"may not write to {machine.path}/{closed}, and no nix-daemon listens" in store.why
    assert store.on_host(PATH) == Path(f"/home/u/nix{PATH}")
    assert store.options[2:] == (
        *("--option", "build-users-group", ""),
        *("--option", "sandbox", "true", "--option", "sandbox-fallback", "false"),
    )


def test_what_is_missing_counts_as_the_directory_above_it(machine: Machine) -> None:
    (machine.path / "nix/var/nix/db").rmdir()
    assert machine.chosen().kind is StoreKind.SHARED
    shutil.rmtree(machine.path / "nix")
    machine.close("")
    assert machine.chosen().kind is StoreKind.OWN
    machine.open("")
    assert machine.chosen().kind is StoreKind.SHARED


@pytest.mark.parametrize("closed", [(), ("nix/store",)])
def test_a_daemon_that_answers_comes_first(machine: Machine, closed: tuple[str, ...]) -> None:
    machine.listens()
    for name in closed:
        machine.close(name)
    store = machine.chosen("")
    assert (store.kind, store.root, store.options) == (StoreKind.DAEMON, "", ("--store", "daemon"))
    assert machine.asked == 1


def test_a_daemon_that_refuses_is_named_and_not_used(machine: Machine) -> None:
    machine.listens()
    assert machine.chosen("user u is not allowed").kind is StoreKind.SHARED
    machine.close("nix/store")
    store = machine.chosen("user u is not allowed")
    assert store.kind is StoreKind.OWN
    assert "user u is not allowed" in store.why


def test_a_socket_that_may_not_be_written_to_is_not_asked(machine: Machine) -> None:
    socket = machine.listens()
    if ROOT:
        os.chown(socket, 0, 0)
    socket.chmod(0o444)
    machine.close("nix/store")
    store = machine.chosen("")
    assert (store.kind, machine.asked) == (StoreKind.OWN, 0)
    assert f"{socket} may not be written to" in store.why


def others_may_write(path: Path) -> None:
    path.chmod(0o777)


def is_a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize("spoil", [others_may_write, is_a_link])
@pytest.mark.parametrize("name", ["nix", "nix/store", "nix/var/nix", "nix/var/nix/db", "nix/var/nix/daemon-socket"])
def test_a_store_that_another_user_could_change_is_not_used(
    machine: Machine, name: str, spoil: Callable[[Path], None]
) -> None:
    """Nor is its daemon: what it hands out would be signed as built here."""
    machine.listens()
    spoil(machine.path / name)
    store = machine.chosen("")
    assert (store.kind, machine.asked) == (StoreKind.OWN, 0)
    assert f"is not used: {machine.path}/" in store.why


@pytest.mark.parametrize("owner", [1234, 65534])
@pytest.mark.parametrize("name", ["nix", "nix/store", "nix/var/nix/db", "nix/var/nix/daemon-socket"])
def test_a_third_users_store_is_not_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, owner: int
) -> None:
    """65534 is what the kernel shows for owners that have no uid here, root among them; it counts as another user."""
    machine.listens()
    its, fstat = (machine.path / name).stat(), os.fstat

    def as_owned(fd: int) -> os.stat_result:
        status = fstat(fd)
        return os.stat_result((*status[:4], owner, *status[5:])) if os.path.samestat(status, its) else status

    monkeypatch.setattr(os, "fstat", as_owned)
    store = machine.chosen("")
    assert (store.kind, machine.asked) == (StoreKind.OWN, 0)
    assert f"belongs to uid {owner}" in store.why


@given(TEXTS)
def test_a_users_own_store_is_one_word_whatever_its_path(text: str) -> None:
    root = f"/home/{text}/nix".encode("utf-8", "replace").decode()
    options = NixStore(StoreKind.OWN, "", root).options
    assert options[0] == "--store"
    assert not [word for word in options[2:] if "/" in word]
    url = urlsplit(options[1])
    assert (url.path, url.fragment) == ("local", "")
    assert parse_qs(url.query, keep_blank_values=True) == {"root": [root]}
