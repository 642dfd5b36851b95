"""A launcher for tests: each start is served by a fork of this process, so that what a test replaced holds there."""

import gc
import os
import signal
import socket

import pytest

from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.connection import Connection
from mvmnix.launcher import session
from mvmnix.system.descriptors import ask_for_senders
from mvmnix.system.roots import Roots


def reach(_roots: Roots, *, private: bool) -> Connection:
    """Connect to a fork of this process that serves one caller, and is not this process's child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ask_for_senders(theirs)
        check = CallerCheck.of_this_process()
        child = os.fork()
        if child == 0:
            _be_session(theirs, check)
    os.waitpid(child, 0)
    return Connection(ours)


def _be_session(connection: socket.socket, check: CallerCheck) -> None:
    status = 125
    try:
        gc.freeze()  # what a test left to be collected would close descriptors of this process by their numbers
        os.setsid()
        signal.set_wakeup_fd(-1)  # the test's process may have one, and handlers
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        own = connection.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, 2**31 - 1)
        status = session.serve(connection, check)
    finally:
        os._exit(status)


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have starts go to forks of this process."""
    monkeypatch.setattr("mvmnix.api.launch.reach", reach)
