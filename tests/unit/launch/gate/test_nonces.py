"""A nonce on the disk: in what order it gets there, and where it can't be read."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UnreadableError
from mvmnix.formats.strict import MalformedError
from mvmnix.launch.gate.nonces import Nonces, Spent
from mvmnix.launch.gate.replay import nonce_of
from tests.unit.launch.gate.starts import ONCE
from tests.unit.launch.house import House
from tests.unit.provenance.world import NOW

SPENT = Spent(Digest.of(b""), "m1", NOW, NOW, NOW, "")


def test_a_nonce_is_on_the_disk_before_it_has_its_name_and_with_it(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()

    def noted(call: str, real: Callable[..., None], *arguments: Any, **more: Any) -> None:
        if call == "fsync" and stat.S_ISREG((status := os.fstat(arguments[0])).st_mode):
            call = f"fsync of {status.st_size} bytes"
        calls.append(call)
        real(*arguments, **more)

    for call in ("fsync", "link"):
        monkeypatch.setattr(os, call, partial(noted, call, getattr(os, call)))
    with here.directory("replay") as directory:
        nonces = Nonces(directory)
        with here.plan(**ONCE) as plan:
            calls.clear()
            nonces.spend(nonce_of(plan.plan), SPENT)
        assert list(nonces.every()) == [nonce_of(plan.plan)]
    assert calls[-3:] == [f"fsync of {len(SPENT.to_bytes())} bytes", "link", "fsync"]


def test_a_nonce_on_the_disk() -> None:
    """That of version 1 has no machine before it; one of another version is not read."""
    digest = Digest.of(b"").hex.encode()
    data = (
        b'{"before":"","least":"2026-09-01T12:00:00Z","machine":"m1","plan":"%s","time":"2026-09-01T12:00:00Z",'
        b'"until":"2026-09-01T12:00:00Z","version":2}' % digest
    )
    assert SPENT.to_bytes() == replace(SPENT, before=None).to_bytes() == data
    assert Spent.parse(data) == SPENT
    old = data.replace(b'"before":"",', b"")
    assert Spent.parse(old.replace(b'"version":2', b'"version":1')) == replace(SPENT, before=None)
    for number in (b"0", b"3"):
        with pytest.raises(MalformedError, match="version"):
            Spent.parse(data.replace(b'"version":2', b'"version":' + number))


def test_how_many_neighbours_are_looked_at(here: House) -> None:
    """Sixteen, and not the nonce itself, whose plan's window may be over too."""
    near, *others = (Digest(f"00{number:062x}") for number in range(18))
    with here.directory("replay") as directory:
        nonces = Nonces(directory)
        for nonce in (near, *others):
            nonces.spend(nonce, SPENT)
        assert nonces.forget(near, before=NOW - timedelta(seconds=1), keep=frozenset()) == 0
        assert nonces.forget(near, before=NOW, keep=frozenset()) == 16
        assert list(nonces.every()) == [near, others[-1]]
        assert nonces.forget(others[-1], before=NOW, keep=frozenset({near})) == 0
        assert nonces.forget(Digest("f" * 64), before=NOW, keep=frozenset()) == 0


def test_how_large_a_nonce_is_read(here: House) -> None:
    nonce = Digest.of(b"nonce")
    with here.directory("replay") as directory:
        nonces = Nonces(directory)
        nonces.spend(nonce, SPENT)
        with directory.existing(nonce.hex[:2]) as shard:
            shard.write_atomic(nonce.hex, SPENT.to_bytes().ljust(4096))
            assert nonces.find(nonce) == SPENT
            shard.write_atomic(nonce.hex, SPENT.to_bytes().ljust(4097))
        with pytest.raises(UnreadableError, match="is larger than"):
            nonces.find(nonce)


def test_a_disk_that_can_not_be_read(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with here.plan(**ONCE) as plan:
        monkeypatch.setattr(Nonces, "find", broken)
        with pytest.raises(MvmnixError, match=r"Input/output error.*nothing starts"):
            here.replay().judge(plan.plan)
