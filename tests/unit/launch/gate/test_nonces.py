"""A nonce on the disk: in what order it gets there, and where it can't be read."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import MvmnixError, UnreadableError
from mvmnix.launch.gate.nonces import Nonces, Spent
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.model import Digest
from tests.unit.launch.gate.test_replay import ONCE
from tests.unit.launch.house import House, house
from tests.unit.provenance.world import NOW


@pytest.fixture
def here(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path / "house") as it:
        yield it


def test_a_nonce_is_on_the_disk_before_it_has_its_name_and_with_it(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()

    def noted(call: str, real: Callable[..., None], *arguments: Any, **more: Any) -> None:
        is_file = call == "fsync" and stat.S_ISREG(os.fstat(arguments[0]).st_mode)
        calls.append("fsync of the file" if is_file else call)
        real(*arguments, **more)

    for call in ("fsync", "link"):
        monkeypatch.setattr(os, call, partial(noted, call, getattr(os, call)))
    with here.directory("replay") as directory:
        nonces = Nonces(directory)
        with here.plan(**ONCE) as plan:
            calls.clear()
            nonces.spend(nonce_of(plan.plan), Spent(Digest.of(b""), "m1", NOW, NOW, NOW, ""))
        assert list(nonces.every()) == [nonce_of(plan.plan)]
    assert calls[-3:] == ["fsync of the file", "link", "fsync"]


def test_how_large_a_nonce_is_read(here: House) -> None:
    nonce, spent = Digest.of(b"nonce"), Spent(Digest.of(b""), "m1", NOW, NOW, NOW, "")
    with here.directory("replay") as directory:
        nonces = Nonces(directory)
        nonces.spend(nonce, spent)
        with directory.existing(nonce.hex[:2]) as shard:
            shard.write_atomic(nonce.hex, spent.to_bytes().ljust(4096))
            assert nonces.find(nonce) == spent
            shard.write_atomic(nonce.hex, spent.to_bytes().ljust(4097))
        with pytest.raises(UnreadableError, match="is larger than"):
            nonces.find(nonce)


def test_a_disk_that_can_not_be_read(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with here.plan(**ONCE) as plan:
        monkeypatch.setattr(Nonces, "find", broken)
        with pytest.raises(MvmnixError, match=r"Input/output error.*nothing starts"):
            here.replay().judge(plan.plan)
