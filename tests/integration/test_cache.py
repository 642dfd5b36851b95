"""A real Nix downloads from the builder's cache, over loopback TCP, into a store of its own."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.digest import Digest
from mvmnix.formats import nar
from mvmnix.model import HashMode, Source, StorePath
from tests.fakes import nar_of, source
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration

DEB = source("a_1.0-2+deb13u1_amd64.deb", b"debian" * 100_000)
EMPTY = source("empty", b"")
TREE_ARCHIVE = b"".join(
    nar.nar_of_tree(nar.Dir({b"run": nar.File.of(b"#!/bin/sh", executable=True), b"link": nar.Symlink(b"run")}))
)
TREE = Source("path:x", "source", Digest.of(TREE_ARCHIVE), HashMode.NAR)


def bridge(client: socket.socket, ledger: OfferLedger) -> None:
    """What the channel does between the guest's socket and a connection, without the channel."""
    connection = Connection(ledger)
    with client:
        while data := client.recv(4096):
            connection.data(data)
            while piece := connection.pull(65536):
                client.sendall(piece)
            if piece is None:
                return


@contextmanager
def serving(ledger: OfferLedger) -> Iterator[str]:
    """The cache at a loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(EVENT_PATIENCE)

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=bridge, args=(client, ledger), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def ledger() -> OfferLedger:
    made = OfferLedger()
    contents: dict[Source, Callable[[], bytes]] = {
        DEB: lambda: nar_of(b"debian" * 100_000),
        EMPTY: lambda: nar_of(b""),
        TREE: lambda: TREE_ARCHIVE,
    }
    for it, archive in contents.items():
        made.offer([Offer.by_content(it.store_path, it.digest, it.mode, lambda archive=archive: (archive(),))])  # type: ignore[misc]
    return made


def realise(where: Path, cache: str, *paths: StorePath) -> subprocess.CompletedProcess[bytes]:
    """`nix-store --realise` into a store in an empty directory, which knows no other substituter and no key."""
    options = {
        "substituters": cache,
        "substitute": "true",
        "build-users-group": "",
        "trusted-public-keys": "",
        "require-sigs": "true",
        "connect-timeout": "60",
        "download-attempts": "1",
    }
    argv = ["nix-store", "--store", str(where)]
    for name, value in options.items():
        argv += ["--option", name, value]
    env = {"HOME": str(where), "PATH": os.environ["PATH"], "NIX_CONF_DIR": str(where)}
    return subprocess.run([*argv, "--realise", *map(str, paths)], capture_output=True, check=False, env=env)


def test_fixed_outputs_and_trees_arrive_unsigned(ledger: OfferLedger, tmp_path: Path) -> None:
    with serving(ledger) as cache:
        done = realise(tmp_path, cache, DEB.store_path, EMPTY.store_path, TREE.store_path)
    assert done.returncode == 0, done.stderr.decode()
    store = tmp_path / "nix/store"
    assert (store / str(DEB.store_path).rpartition("/")[2]).read_bytes() == b"debian" * 100_000
    assert (store / str(EMPTY.store_path).rpartition("/")[2]).read_bytes() == b""
    tree = store / str(TREE.store_path).rpartition("/")[2]
    assert os.access(tree / "run", os.X_OK)
    assert (tree / "link").readlink() == Path("run")
    assert set(ledger.given) == {it.store_path.hash for it in (DEB, EMPTY, TREE)}
    assert not ledger.missed


def test_a_miss_is_final(ledger: OfferLedger, tmp_path: Path) -> None:
    unknown = source("unknown", b"?").store_path
    with serving(ledger) as cache:
        done = realise(tmp_path, cache, unknown)
    assert done.returncode != 0
    assert str(unknown).encode() in done.stderr
    assert ledger.missed == {unknown.hash}


def test_nix_itself_notices_other_bytes(tmp_path: Path) -> None:
    """Should the host's disk change between the two looks: what arrives is not what the path's name promises."""
    ledger = OfferLedger()
    answers = iter([nar_of(b"good"), nar_of(b"evil"), nar_of(b"evil")])
    it = source("file", b"good")
    ledger.offer([Offer.by_content(it.store_path, it.digest, it.mode, lambda: (next(answers),))])
    with serving(ledger) as cache:
        done = realise(tmp_path, cache, it.store_path)
    assert done.returncode != 0
    assert b"hash mismatch" in done.stderr
