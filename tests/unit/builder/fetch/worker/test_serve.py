"""The worker's first process, as far as it can run in this one."""

import ctypes
import signal
from types import SimpleNamespace

import pytest

from mvmnix.builder.fetch.worker import serve
from mvmnix.builder.fetch.worker.packets import pair


def test_a_worker_whose_lanes_could_look_into_each_other_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(prctl=lambda *_: -1))
    ours, theirs = pair()
    ours.close()
    with theirs, pytest.raises(OSError, match="PR_SET_DUMPABLE"):
        serve.main(theirs.detach(), "")
