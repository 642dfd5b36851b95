"""How a command ended, as an exit code of mvm and in words."""

import json

import pytest

from mvmnix.formats import strict
from mvmnix.machines.exit_status import End, ExitStatus, Step

STATUSES = [
    (ExitStatus(End.EXITED, code=7), 7, "exited with status 7"),
    (ExitStatus(End.SIGNALED, code=9), 137, "was ended by SIGKILL"),
    (ExitStatus(End.SIGNALED, code=33), 161, "was ended by signal 33"),
    (ExitStatus(End.TIMED_OUT), 124, "took longer than its time limit"),
    (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 2), 127, "executing the program: No such file or directory"),
    (ExitStatus(End.NOT_STARTED, Step.DIRECTORY, 20), 127, "entering the working directory: Not a directory"),
    (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 13), 126, "executing the program: Permission denied"),
    (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 8), 126, "executing the program: Exec format error"),
    (ExitStatus(End.NOT_STARTED, Step.PREPARE, 12), 125, "preparing the process: Cannot allocate memory"),
    (ExitStatus(End.REFUSED, code=1), 126, "the verb is not granted"),
    (ExitStatus(End.REFUSED, code=77), 126, "reason 77"),
]


@pytest.mark.parametrize(("status", "code", "text"), STATUSES)
def test_every_end_has_an_exit_code_and_words(status: ExitStatus, code: int, text: str) -> None:
    assert status.exit_code == code
    assert text in str(status)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (ExitStatus(End.EXITED, code=7), ""),
        (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 2), "command not found in the guest: a\\nb"),
        (ExitStatus(End.NOT_STARTED, Step.EXECUTE, 8), "command not executable in the guest: a\\nb: Exec format error"),
        (
            ExitStatus(End.NOT_STARTED, Step.DIRECTORY, 2),
            (
                "the command 'a\\nb' did not end by itself: it could not be started: entering the working directory: "
                "No such file or directory"
            ),
        ),
        (ExitStatus(End.SIGNALED, code=9), "the command 'a\\nb' did not end by itself: it was ended by SIGKILL"),
        (
            ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True),
            "out of memory in the guest: the command 'a\\nb' was ended by SIGKILL; a plan gives it more: --memory",
        ),
        (
            ExitStatus(End.EXITED, code=1, is_out_of_memory=True),
            "out of memory in the guest: the command 'a\\nb' exited with status 1; a plan gives it more: --memory",
        ),
    ],
)
def test_an_end_that_the_command_did_not_choose_is_explained_in_one_line(status: ExitStatus, line: str) -> None:
    assert status.explain("a\nb") == line


@pytest.mark.parametrize(
    "status", [status for status, _, _ in STATUSES] + [ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True)]
)
def test_it_is_read_as_it_is_written(status: ExitStatus) -> None:
    assert strict.read(json.loads(json.dumps(status.value())), "status", ExitStatus.read) == status
