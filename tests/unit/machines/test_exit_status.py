"""How a command ended, as an exit code of mvm and in words."""

import pytest

from mvmnix.machines.exit_status import End, ExitStatus, Step

STATUSES = [
    (ExitStatus(End.EXITED, code=7), 7, "exited with status 7"),
    (ExitStatus(End.SIGNALED, code=9), 137, "was ended by SIGKILL"),
    (ExitStatus(End.SIGNALED, code=33), 161, "was ended by signal 33"),
    (ExitStatus(End.TIMED_OUT), 124, "took longer than its time limit"),
    (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 13), 127, "executing the program: Permission denied"),
    (ExitStatus(End.NOT_STARTED, Step.PREPARE, 12), 125, "preparing the process: Cannot allocate memory"),
    (ExitStatus(End.REFUSED, code=1), 126, "the verb is not granted"),
    (ExitStatus(End.REFUSED, code=77), 126, "reason 77"),
]


@pytest.mark.parametrize(("status", "code", "text"), STATUSES)
def test_every_end_has_an_exit_code_and_words(status: ExitStatus, code: int, text: str) -> None:
    assert status.exit_code == code
    assert text in str(status)
