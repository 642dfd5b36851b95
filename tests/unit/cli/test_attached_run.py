"""A guest's bytes reach a terminal as text and nothing else, unless its user asks for them as they are."""

import os

import pytest

from tests.unit.cli.station import Station

EVIL = "\x1b]0;mine\x07\x1b[6n"


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_a_run_at_a_terminal(settled: Station, flags: tuple[str, ...]) -> None:
    """Where standard output is a terminal, as far as anybody can tell."""
    reference = settled.flake()
    settled.monkeypatch.setattr(os, "isatty", lambda fd: fd in {1, 2})
    said = settled.mvm("run", *flags, reference, "--", "echo", EVIL)
    assert said.code == 0, said.err
    assert ("\x1b" in said.out) == bool(flags)
    assert ("\\u001b]0;mine" in said.out) != bool(flags)
