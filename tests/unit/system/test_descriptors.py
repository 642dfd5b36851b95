"""Descriptors that come with a packet: so many and no more, whoever sends them."""

import os
import socket

import pytest

from mvmnix.system.descriptors import received


@pytest.mark.parametrize("most", range(1, 6))
def test_no_more_are_received_than_were_asked_for(most: int) -> None:
    """A buffer for one, rounded up as CMSG_SPACE(3) does, has room for two."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for sent in (0, most, most + 1):
            before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
            socket.send_fds(theirs, [b"packet"], [theirs.fileno()] * sent)
            packet, fds, flags = received(ours, 16, most)
            assert (packet, len(fds), bool(flags & socket.MSG_CTRUNC)) == (b"packet", min(sent, most), sent > most)
            assert not any(os.get_inheritable(fd) for fd in fds)
            for fd in fds:
                os.close(fd)
            assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
