"""Templates that a launcher holds for its forks: sealed pairs alone, so many at most, and each fork's descriptors."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.template import Template
from mvmnix.launcher import held_templates
from mvmnix.launcher.held_templates import MOST_HELD, HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.launcher.server import Server
from mvmnix.system import store
from mvmnix.system.descriptors import send_packet
from tests.descriptors import close_all, nothing_left_open
from tests.unit.launch.templates.kept import KEY, PIECES, STATE, record_of

SALT = bytes(range(32))
SAID = KEY.digest.raw + SALT + record_of().to_bytes()


def template(key: Digest = KEY.digest, salt: bytes = SALT) -> Template:
    size = KEY.memory_mib << 20
    memory = guest_memory.sealed_copy(PIECES, size, guest_memory.digest(PIECES), "of-a-test")
    return Template(replace(record_of(), key=key), memory, store.sealed_memory(STATE, name="of-a-test"), salt)


def given(held: HeldTemplates, key: Digest = KEY.digest, salt: bytes = SALT) -> None:
    """Give one as a fork does, and receive it."""
    with closing(template(key, salt)) as made:
        held.give(made)
    held.receive()


@pytest.fixture
def held() -> Iterator[HeldTemplates]:
    with nothing_left_open():
        made = HeldTemplates()
        yield made
        made.close()
        made._ours.close()


def count(held: HeldTemplates) -> int:
    """How many it holds."""
    return (len([*held.descriptors]) - 1) // 2


@contextmanager
def sealed_pair() -> Iterator[tuple[int, int]]:
    with closing(template()) as made:
        yield made.memory, made.state


def test_what_is_given_is_taken_with_descriptors_of_its_own(held: HeldTemplates) -> None:
    assert held.take(KEY.digest) is None
    given(held)
    both = [held.take(KEY.digest) for _ in range(2)]
    for found in both:
        assert found is not None
        with closing(found):
            assert (found.record, found.salt) == (record_of(), SALT)
            assert tuple(guest_memory.blocks(found.memory)) == PIECES
            assert os.read(found.state, 1000) == STATE
    assert held.take(Digest.of(b"another")) is None


def test_a_newer_one_takes_the_place_of_an_older_one(held: HeldTemplates) -> None:
    given(held)
    given(held, salt=bytes(32))
    assert count(held) == 1
    found = held.take(KEY.digest)
    assert found is not None
    found.close()
    assert found.salt == bytes(32)


def refused(held: HeldTemplates, data: bytes, descriptors: tuple[int, ...]) -> None:
    send_packet(held._forks, data, descriptors)
    held.receive()
    assert count(held) == 0


def test_what_is_no_sealed_pair_is_closed(held: HeldTemplates) -> None:
    pair = os.pipe()
    with sealed_pair() as (memory, state):
        writable = guest_memory.make_shared(1 << 20, "of-a-test")
        for descriptors in ((), (memory,), (memory, writable), (writable, state), (memory, state, state), pair):
            refused(held, SAID, descriptors)
        os.close(writable)
    close_all(pair)


@pytest.mark.parametrize("data", [b"", SAID[:31], SAID[:32], SAID[:63], SAID + bytes(1 << 16)], ids=len)
def test_a_packet_of_another_size(held: HeldTemplates, data: bytes) -> None:
    with sealed_pair() as pair:
        refused(held, data, pair)


def test_where_nothing_was_given_it_does_not_wait(held: HeldTemplates) -> None:
    held.receive()
    assert count(held) == 0


def test_a_flood_is_bounded_by_number(held: HeldTemplates) -> None:
    keys = [Digest.of(b"%d" % number) for number in range(MOST_HELD + 3)]
    for key in keys:
        given(held, key)
    assert count(held) == MOST_HELD
    assert [held.take(key) for key in keys[:3]] == [None] * 3, "unused, the first that came are gone"


def use(held: HeldTemplates, key: Digest) -> None:
    """Start from one as a fork does, and hear of it."""
    found = held.take(key)
    assert found is not None
    found.close()
    held.receive()


def test_the_least_recently_used_one_makes_room(held: HeldTemplates) -> None:
    keys = [Digest.of(b"%d" % number) for number in range(MOST_HELD + 2)]
    for key in keys[:MOST_HELD]:
        given(held, key)
    use(held, keys[0])
    use(held, keys[2])
    for key in keys[MOST_HELD:]:
        given(held, key)
    assert count(held) == MOST_HELD
    assert {key for key in keys if key.raw not in held._held} == {keys[1], keys[3]}


@pytest.mark.parametrize("word", [KEY.digest.raw + bytes(32), Digest.of(b"another").raw + SALT], ids=["salt", "key"])
def test_the_use_of_one_that_is_not_held_changes_nothing(held: HeldTemplates, word: bytes) -> None:
    given(held)
    given(held, Digest.of(b"1"))
    before = [*held._held]
    send_packet(held._forks, word)
    held.receive()
    assert [*held._held] == before


def test_a_flood_is_bounded_by_memory(held: HeldTemplates, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [Digest.of(b"%d" % number) for number in range(3)]
    given(held, keys[0])
    size = next(iter(held._held.values())).size
    monkeypatch.setattr(held_templates, "MOST_BYTES", 2 * size)
    for key in keys[1:]:
        given(held, key)
    assert (count(held), held.take(keys[0])) == (2, None)
    monkeypatch.setattr(held_templates, "MOST_BYTES", size - 1)
    given(held, keys[0])
    assert count(held) == 2, "one that is larger than all may be takes no other one's place"


def test_one_that_is_of_no_use_any_more_is_let_go_of(held: HeldTemplates) -> None:
    keys = [Digest.of(b"%d" % number) for number in range(2)]
    for key in keys:
        given(held, key)
    held.drop(keys[0])
    held.receive()
    assert (count(held), held.take(keys[0])) == (1, None)


def test_who_gives_more_than_is_received_does_not_wait(held: HeldTemplates) -> None:
    with closing(template()) as made:
        for _ in range(1000):
            held.give(made)
    for _ in range(1000):
        held.receive()
    assert count(held) == 1


def test_a_fork_keeps_what_is_held_and_its_connection_alone(held: HeldTemplates, tmp_path: Path) -> None:
    """And gives up all of that once it has found its own."""

    pools = Pools()

    def name(connection: socket.socket) -> int:
        kept = {int(fd) for fd in os.listdir("/proc/self/fd")}  # noqa: PTH208 - numbers
        known = {0, 1, 2, connection.fileno(), *held.descriptors, *pools.descriptors}
        found = held.take(KEY.digest)
        held.close()
        left = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
        connection.send(repr((known <= kept, len(kept - known), found is not None, left)).encode())
        return 0

    given(held)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        Server(listening, name, held, pools, wait=lambda _end, _plan: 0)._fork(theirs)
        os.wait()
        assert mine.recv(1000).decode() == repr((True, 1, True, 5 + 2 + 1)), "one is the listing's, two are found"
    pools.close()
    pools._ours.close()
