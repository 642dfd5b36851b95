"""What tells one process from another that may do other things; each way to be confined or bounded shows."""

import os
import resource
import threading
from collections.abc import Callable

import pytest

from mvmnix.system import prctl
from mvmnix.system.process_identity import (
    CONFINEMENT,
    SAME_REACH,
    ProcessIdentity,
    is_thread_confined,
    reset_soft_limits,
)
from tests.support.confinement import enter_namespaces, filter_calls, forbid_new_privileges, hide, lower_hard_limit
from tests.support.forks import fork_that, result_of


def ours() -> ProcessIdentity:
    """Read when it is asked for: other tests of this process may have changed it."""
    return ProcessIdentity.read(os.getpid())


def test_a_fork_is_like_its_parent() -> None:
    with fork_that(lambda: None) as child:
        assert ProcessIdentity.read(child) == ours()
        assert ours().differences(ProcessIdentity.read(child)) == ()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (forbid_new_privileges, {"NoNewPrivs"}),
        (filter_calls, {"NoNewPrivs", "Seccomp", "Seccomp_filters"}),
        (enter_namespaces, {"namespace user", "namespace mnt"}),
        (lower_hard_limit, {"limit Max open files"}),
        (lambda: os.nice(3), {"scheduling"}),
        (lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)), {"scheduling"}),
    ],
    ids=["no-new-privileges", "filter", "namespaces", "limit", "niceness", "policy"],
)
def test_what_a_process_can_not_take_back_shows(change: Callable[[], object], names: set[str]) -> None:
    with fork_that(change) as child:
        found = ProcessIdentity.read(child)
    assert names <= set(ours().differences(found))
    assert set(ours().differences(found, frozenset(names))) == names
    assert found.is_confined == bool(names & CONFINEMENT)


def test_what_a_process_can_take_back_does_not_show() -> None:
    def change() -> None:
        os.umask(0)
        os.chdir("/")
        os.setsid()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    with fork_that(change) as child:
        assert ProcessIdentity.read(child) == ours()


def test_a_process_that_is_not_dumpable_shows_its_public_part_alone() -> None:
    def look(process: int) -> ProcessIdentity:
        prctl.drop_capabilities()
        with pytest.raises(PermissionError):
            ProcessIdentity.read(process)
        return ProcessIdentity.read_public(process)

    with fork_that(hide) as child, fork_that(prctl.drop_capabilities) as other:
        found = result_of(lambda: look(child))
        assert found == ProcessIdentity.read(other).public


def test_a_process_that_is_not_dumpable_reads_itself() -> None:
    def read_itself() -> bool:
        hide()
        return ProcessIdentity.read(os.getpid()).public == ProcessIdentity.read_public(os.getpid())

    assert result_of(read_itself)


def test_the_public_part_lacks_root_and_namespaces_alone() -> None:
    assert ours().public == ProcessIdentity.read_public(os.getpid())
    missing = {name for name, _ in ours().fields} - {name for name, _ in ours().public.fields}
    assert "root" in missing
    assert all(name == "root" or name.startswith("namespace ") for name in missing)


def test_the_named_fields_are_there() -> None:
    """A field that is misspelled would be equal in all processes."""
    assert {name for name, value in ours().fields if value} >= SAME_REACH - {"attr/current"} | CONFINEMENT


def test_soft_limits_and_processors_are_those_of_no_caller() -> None:
    def reset() -> tuple[int, int, int, bool]:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        resource.setrlimit(resource.RLIMIT_CPU, (1_000_000, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        every = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(every)})
        reset_soft_limits()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        core, cpu = (resource.getrlimit(each)[0] for each in (resource.RLIMIT_CORE, resource.RLIMIT_CPU))
        return soft, core, cpu, os.sched_getaffinity(0) >= every

    hard_files, hard_time = (resource.getrlimit(each)[1] for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU))
    most = 4096 if hard_files == resource.RLIM_INFINITY else min(4096, hard_files)
    assert result_of(reset) == (most, 0, hard_time, True)


def test_a_process_that_ended_is_an_error() -> None:
    with fork_that(lambda: None) as child:
        pass
    with pytest.raises(OSError):
        ProcessIdentity.read(child)


def test_a_thread_that_confined_itself_shows() -> None:
    """The process's first thread, which /proc shows by the process's number, did not."""

    def look() -> tuple[bool, bool, bool]:
        found = []

        def confine() -> None:
            forbid_new_privileges()
            found.append(is_thread_confined())

        thread = threading.Thread(target=confine)
        thread.start()
        thread.join()
        return found[0], is_thread_confined(), ProcessIdentity.read(os.getpid()).is_confined

    assert result_of(look) == (True, False, False)
