"""A guest's bytes reach a terminal as text and nothing else, unless its user asks for them as they are."""

import os
import pty
import tty

import pytest

from mvmnix.cli.attached_run import output
from mvmnix.system.loop import Loop
from tests.patience import EVENT_PATIENCE
from tests.unit.cli.station import Station

EVIL = "\x1b]0;mine\x07\x1b[6n"


@pytest.mark.parametrize(
    ("terminal", "raw", "written"),
    [
        (True, False, b"\\u001b]0;mine\\u0007\\u001b[6n"),
        (True, True, EVIL.encode()),
        (False, False, EVIL.encode()),
        (False, True, EVIL.encode()),
    ],
)
def test_where_bytes_go(terminal: bool, raw: bool, written: bytes) -> None:
    read, write = pty.openpty() if terminal else os.pipe()
    if terminal:
        tty.setraw(write)
    loop = Loop()
    sink = output(loop, write, raw=raw)
    sink.bind(released=lambda _count: None, broken=lambda: None)
    sink(EVIL.encode())
    while sink.pending:
        loop.turn(EVENT_PATIENCE)
    assert os.read(read, 4096) == written
    loop.close()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_a_run_at_a_terminal(settled: Station, flags: tuple[str, ...]) -> None:
    """Where standard output is a terminal, as far as anybody can tell."""
    reference = settled.flake()
    settled.monkeypatch.setattr(os, "isatty", lambda fd: fd in {1, 2})
    said = settled.mvm("run", *flags, reference, "--", "echo", EVIL)
    assert said.code == 0, said.err
    assert ("\x1b" in said.out) == bool(flags)
    assert ("\\u001b]0;mine" in said.out) != bool(flags)
