"""Tests for tests/support/processes.py."""

import subprocess

from tests.patience import until
from tests.support.processes import end_started, end_with_test, gone, status


def test_what_a_test_started_is_ended_with_it() -> None:
    running = end_with_test(subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE))
    over = end_with_test(subprocess.Popen(["true"]))
    over.wait()
    until(lambda: status(running.pid)["Name"] == "sleep")
    assert not gone(running.pid)
    end_started()
    assert gone(running.pid)
    assert running.stdout is not None
    assert running.stdout.closed
