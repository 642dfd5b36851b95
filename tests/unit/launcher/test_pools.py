"""Pools in a launcher and its forks: what is kept, what is started, and who serves a caller."""

import os
import socket
from collections.abc import Iterator

import pytest

from mvmnix.launch.control.pool_messages import MOST_WAITING
from mvmnix.launcher import pools as module
from mvmnix.launcher.pools import CLAIM_DESCRIPTORS, DONE, MOST_FAILURES, READY, TAKEN, KeptPool, Pools
from mvmnix.system.descriptors import receive_packet
from mvmnix.system.store import sealed_memory
from tests.descriptors import nothing_left_open

NAME = b'{"image":"hello"}'


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pools]:
    """A launcher's, which waits for no pause, and where a process that waits has not long to say what it takes."""
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    monkeypatch.setattr(module, "_REST", 0.0)
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with nothing_left_open():
        made = Pools()
        yield made
        made.drop_all()
        made.close()
        made._ours.close()


def keep(pools: Pools, count: int = 1, name: bytes = NAME) -> None:
    """Have a fork set a pool."""
    fd = sealed_memory(b"a plan", name="test")
    pools.keep(name, count, fd)
    os.close(fd)
    pools.receive(None)


def start(pools: Pools) -> socket.socket:
    """The end of the process of one more machine."""
    found = pools.next_start()
    assert found is not None
    end, plan = found
    assert os.pread(plan, 100, 0) == b"a plan"
    return end


def hear(pools: Pools) -> None:
    """Have the launcher take what its machines say."""
    for waiting in pools.watched().values():
        if waiting is not None:
            pools.receive(waiting)


def kept(pools: Pools) -> tuple[KeptPool, ...]:
    return pools.kept()


def test_as_many_are_started_as_are_to_wait_two_at_a_time(pools: Pools) -> None:
    keep(pools, 3)
    with start(pools) as first, start(pools) as second:
        assert pools.next_start() is None
        first.send(READY)
        second.send(READY)
        hear(pools)
        assert kept(pools) == (KeptPool(NAME, 3, 2, b""),)
        with start(pools) as third:
            third.send(READY)
            hear(pools)
            assert pools.next_start() is None
            assert kept(pools) == (KeptPool(NAME, 3, 3, b""),)


def test_one_that_was_claimed_is_followed_by_another(pools: Pools) -> None:
    keep(pools)
    for _ in range(MOST_FAILURES + 1):
        with start(pools) as end:
            end.send(READY)
            hear(pools)
            end.send(DONE)
            hear(pools)
            assert end.recv(1) == b"", "the launcher has hung up"
        assert kept(pools) == (KeptPool(NAME, 1, 0, b""),)


@pytest.mark.parametrize("words", [b"no machine can wait", b""], ids=["words", "none"])
def test_after_some_failures_none_is_started_and_it_is_said_why(pools: Pools, words: bytes) -> None:
    keep(pools)
    for _ in range(MOST_FAILURES):
        with start(pools) as end:
            end.send(words) if words else end.close()
            hear(pools)
    assert pools.next_start() is None
    assert kept(pools) == (KeptPool(NAME, 1, 0, words or b"its process ended"),)
    keep(pools)
    assert kept(pools) == (KeptPool(NAME, 1, 0, b""),), "set once more, it is tried once more"


def test_a_launcher_does_not_stay_for_a_pool_that_starts_none(pools: Pools) -> None:
    keep(pools)
    for _ in range(MOST_FAILURES):
        assert pools.are_set
        with start(pools) as end:
            end.close()
            hear(pools)
    assert not pools.are_set
    assert len(kept(pools)) == 1, "and says why, as long as it is there"


def test_one_that_had_waited_long_is_the_first_to_fail(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONG", 0.0)
    keep(pools)
    for _ in range(2 * MOST_FAILURES):
        with start(pools) as end:
            end.send(READY)
            hear(pools)
            end.close()
            hear(pools)
    assert pools.are_set


def test_no_more_are_kept_than_may_wait(pools: Pools) -> None:
    keep(pools, MOST_WAITING)
    keep(pools, 1, name=b"other")
    assert kept(pools) == (KeptPool(NAME, MOST_WAITING, 0, b""),)


def test_between_failures_there_is_a_pause(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 1e6)
    keep(pools)
    with start(pools) as end:
        end.close()
        hear(pools)
    assert pools.next_start() is None


def test_a_machine_that_was_claimed_is_given_some_time(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REST", 1e6)
    keep(pools)
    with start(pools) as end:
        end.send(DONE)
        hear(pools)
    assert pools.next_start() is None


def test_a_pool_that_is_set_again_or_removed_hangs_up(pools: Pools) -> None:
    keep(pools)
    keep(pools, name=b"other")
    with start(pools) as first, start(pools) as second:
        keep(pools, 2)
        assert first.recv(1) == b""
        pools.remove(b"other")
        pools.receive(None)
        assert second.recv(1) == b""
    assert kept(pools) == (KeptPool(NAME, 2, 0, b""),)


def test_what_is_no_pool_is_not_kept(pools: Pools) -> None:
    open_memory = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    pools.keep(NAME, 1, open_memory)
    pools.receive(None)
    os.close(open_memory)
    socket.send_fds(pools._forks, [b"?"], [])
    pools.receive(None)
    pools._forks.send(b"x" * 70000)
    pools.receive(None)
    assert kept(pools) == ()
    assert not pools.are_set


def test_a_caller_is_handed_to_one_that_takes_it(pools: Pools) -> None:
    keep(pools, 2)
    with start(pools) as gone, start(pools) as there, socket.socket() as connection:
        assert not pools.claim(NAME, b"request", (connection.fileno(),)), "none waits yet"
        for end in (gone, there):
            end.send(READY)
        hear(pools)
        gone.close()
        child = os.fork()
        if child == 0:
            packet = receive_packet(there, 100, CLAIM_DESCRIPTORS)
            answer, other = packet.descriptors
            is_it = os.path.samestat(os.fstat(other), os.fstat(connection.fileno()))
            os.write(answer, TAKEN if (packet.data, is_it) == (b"request", True) else b"?")
            os._exit(0)
        assert pools.claim(NAME, b"request", (connection.fileno(),))
        os.waitpid(child, 0)
        assert not pools.claim(b"other", b"request", (connection.fileno(),))


def test_one_that_says_another_word_takes_nobody(pools: Pools) -> None:
    keep(pools)
    with start(pools) as end, socket.socket() as connection:
        end.send(READY)
        hear(pools)
        child = os.fork()
        if child == 0:
            os.write(receive_packet(end, 100, CLAIM_DESCRIPTORS).descriptors[0], b"n")
            os._exit(0)
        assert not pools.claim(NAME, b"request", (connection.fileno(),))
        os.waitpid(child, 0)


def test_one_that_says_so_too_late_takes_nobody(pools: Pools) -> None:
    """It can't say so any more, and the caller is served by the other one."""
    keep(pools)
    with start(pools) as end, socket.socket() as connection:
        end.send(READY)
        hear(pools)
        assert not pools.claim(NAME, b"request", (connection.fileno(),))
        packet = receive_packet(end, 100, CLAIM_DESCRIPTORS)
        with pytest.raises(BrokenPipeError), socket.socket(fileno=packet.descriptors[0]) as late:
            late.send(TAKEN)
        os.close(packet.descriptors[1])


def test_a_claim_that_is_not_read_is_answered_by_the_end(pools: Pools) -> None:
    keep(pools)
    with start(pools) as end, socket.socket() as connection:
        end.send(READY)
        hear(pools)
        child = os.fork()
        if child == 0:
            assert not pools.claim(NAME, b"request", (connection.fileno(),))
            os._exit(7)
        end.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
