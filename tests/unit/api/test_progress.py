"""What is kept of a builder's output is bounded; all of it is handed on."""

import io

import pytest

from mvmnix.api import frontend
from mvmnix.api.frontend import LoggedProgress
from tests.support.frontends import Shown


def test_a_builder_that_floods_its_log_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "MOST_LOGGED", 1000)
    log = io.BytesIO()
    shown = Shown()
    steps = LoggedProgress(shown, log)
    for _ in range(100):
        steps.log(b"flooding\n" * 7)
    assert log.getvalue() == (b"flooding\n" * 112)[:1000] + b"\nmvm: the log ends here, after 1000 bytes\n"
    assert shown.said == b"flooding\n" * 700
    steps.notice("look")
    assert shown.notices == ["look"]
