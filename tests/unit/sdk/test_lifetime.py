"""How long a sandbox lives, on both faces: as its block and its program do, or longer where that is asked for."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mvmnix import Secret, aio
from mvmnix.api.frontend import SILENT
from mvmnix.api.launch import StartOptions, start_machine
from mvmnix.api.machine_store import open_machine_store
from mvmnix.launch.control import drivers
from mvmnix.launch.control.start_messages import Mode
from mvmnix.machines import registry
from mvmnix.sdk import blocking, errors
from mvmnix.sdk.drive import WorkerStack
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT, until
from tests.repository import ROOT
from tests.unit.cli.machines import kinds
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station
from tests.unit.sdk.faces import Face, on_both

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def running(station: Station) -> list[str]:
    return [machine["name"] for machine in station.mvm("ps", "--json").answer("machines")]


@on_both
async def test_leaving_the_block_ends_the_machine(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest, name="web") as box:
        assert running(settled) == ["web"]
    assert running(settled) == []
    assert (await box.wait()).reason == "stopped"
    assert kinds(settled)[-1] == "end"
    with pytest.raises(ZeroDivisionError):
        async with face.Sandbox.run(guest):
            _ = 1 / 0
    assert running(settled) == []
    with pytest.raises(errors.NotRunning):
        await box.exec(["true"])


@on_both
async def test_ends_by_call(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(errors.TimedOut, match="still runs") as late:
            await box.wait(SHORT)
        assert "stop" not in str(late.value)
        await box.stop()
        assert (await box.wait(SHORT)).reason == "stopped"
        await box.stop()
        await box.kill()
        for call in (box.pause, box.resume):
            with pytest.raises(errors.NotRunning):
                await call()
    box = await face.Sandbox.run(guest)
    await box.kill()
    assert (await box.wait()).reason == "stopped"


@on_both
async def test_a_machine_is_paused_and_goes_on(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        await box.pause()
        assert [machine.state for machine in await face.Sandbox.list()] == ["paused"]
        with pytest.raises(errors.InvalidArgument):
            await box.pause()
        await box.resume()
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"


@on_both
async def test_a_machine_that_is_let_go_is_found_again(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest, name="web", labels={"job": "7"}) as box:
        await box.detach()
        await box.detach()
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"
    for text in ("web", box.id, box.id[:6]):
        async with face.Sandbox.attach(text) as again:
            assert (again.id, again.labels, again.verbs) == (box.id, {"job": "7"}, {"exec", "shell", "copy"})
            assert (await again.exec(["echo", text])).stdout == f"{text}\n".encode()
    assert [machine.name for machine in await face.Sandbox.list(labels={"job": "7"})] == ["web"]
    assert await face.Sandbox.list(labels={"job": "8"}) == ()
    other = await face.Sandbox.attach("web")
    with pytest.raises(TimeoutError, match="still runs") as late:
        await other.wait(SHORT)
    assert isinstance(late.value, errors.TimedOut)
    assert "kill" not in str(late.value)
    await other.stop()
    assert (await other.wait()).reason == "stopped"
    with pytest.raises(errors.NotRunning, match="isn't running"):
        await other.exec(["true"])
    assert await face.Sandbox.list() == ()
    assert [machine.state for machine in await face.Sandbox.list(ended=True)] == ["ended"]
    with pytest.raises(errors.NotFound, match="no machine with the name or id") as missing:
        await face.Sandbox.attach("nosuch")
    assert isinstance(missing.value, LookupError)
    assert "Sandbox.list()" in str(missing.value)


@on_both
async def test_a_plan_that_was_signed_is_launched(face: Face, settled: Station) -> None:
    settled.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    plan = signed(settled, "--single-use", "--verb", "exec", "--label", "job=7")
    async with face.Sandbox.launch(plan, name="web") as box:
        assert (box.verbs, box.labels, running(settled)) == ({"exec"}, {"job": "7"}, ["web"])
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"
    with pytest.raises(errors.NotVerified, match="replay") as refused:
        await face.Sandbox.launch(plan)
    assert refused.value.codes == ("replay",)
    with pytest.raises(errors.InvalidArgument, match="can't be read"):
        await face.Sandbox.launch("/nosuch")


@on_both
async def test_an_end_is_set_anew_within_the_plan_s_time(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest, timeout=PATIENCE) as box:
        with pytest.raises(errors.InvalidArgument, match="the plan ends the machine in "):
            await box.extend(2 * PATIENCE)
        for lease in (EVENT_PATIENCE, PATIENCE / 2):
            await box.extend(lease)
            assert (await box.exec(["true"])).exit_code == 0
        await box.extend(SHORT)
        assert (await box.wait()).reason == "timeout"
        with pytest.raises(errors.NotRunning):
            await box.extend(1)


@pytest.mark.parametrize("option", ["timeout", "idle_timeout"])
@on_both
async def test_what_runs_when_the_machine_s_time_is_up_took_too_long(
    face: Face, guest: str, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._GRACE", SHORT)
    async with face.Sandbox.run(guest, **{option: 1}) as box:
        process = await box.popen(["linger"])
        with pytest.raises(TimeoutError, match="and was ended") as late:
            await box.exec(["linger"])
        assert isinstance(late.value, errors.TimedOut)
        assert f"{option}=" in str(late.value)
        with pytest.raises(errors.TimedOut):
            await process.wait()
        process.close()


@on_both
async def test_time_that_is_up_ends_a_machine_without_a_command_at_once(
    face: Face, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan's own command is ended by the guest, which has a moment to say so; here none runs."""
    monkeypatch.setattr("mvmnix.launch.runtime.machine._GRACE", 10 * PATIENCE)
    async with face.Sandbox.run(guest, timeout=SHORT) as box:
        assert (await box.wait()).reason == "timeout"


@on_both
async def test_a_sandbox_has_no_command_that_gets_a_secret_as_a_variable(face: Face, guest: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="TOKEN: a secret is a variable of the plan's own command alone"):
        await face.Sandbox.run(guest, secrets=[Secret.env("TOKEN", as_variable=True)])


@on_both
async def test_what_is_kept_of_a_machine(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest, keep=True) as box:
        await box.exec(["true"])
        with pytest.raises(errors.Error, match="has no receipt"):
            await box.receipt()
        pieces = [piece async for piece in box.logs("console")]
        assert b"booted" in b"".join(piece.data for piece in pieces)
        with pytest.raises(errors.InvalidArgument, match="source is 'stdout', and not 'output' or 'console'"):
            _ = [piece async for piece in box.logs("stdout")]
        async for record in box.events(follow=True):
            if record.record.kind == "exec":
                break
        assert [event async for event in box.network_log(follow=False)] == []
    assert b"booted" in b"".join([piece.data async for piece in box.logs("console", follow=True)])
    for follow in (False, True):
        assert [each.record.kind async for each in box.events(follow=follow)] == ["start", "exec", "end"]
    assert (await box.receipt()).observed.machine == box.id


@on_both
async def test_what_a_command_of_the_plan_printed_is_followed(face: Face, settled: Station) -> None:
    bundle = signed(settled, command=("complain", "no"))
    with settled.rooms() as context:
        options = StartOptions(mode=Mode.DETACHED, name="web")
        drivers.run(start_machine(context, bundle.read_bytes(), options)).close()
    async with face.Sandbox.attach("web") as box:
        pieces = [piece async for piece in box.logs(follow=True)]
    assert [(piece.stream, piece.data) for piece in pieces] == [("stderr", b"no")]
    assert (await box.wait()).exit_code == 3


def test_what_a_worker_opened_is_closed_by_whichever_comes_last() -> None:
    """A task that is cancelled goes away while its work, in a thread, opens more."""
    opened, closed = WorkerStack(), list[str]()

    def work(stack: ExitStack) -> int:
        stack.callback(closed.append, "early")
        opened.close()
        stack.callback(closed.append, "late")
        assert closed == []
        return 1

    assert opened.run(work) == 1
    assert closed == ["late", "early"]


@on_both
async def test_nothing_stays_open(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        await box.exec(["true"])
        before = open_descriptors()
        await box.exec(["true"])
        await box.files.read("/hello")
        async with box.popen(["linger"]):
            pass
        with pytest.raises(errors.TimedOut):
            await box.exec(["linger"], timeout=SHORT)
        assert open_descriptors() == before


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_a_program_that_ends_takes_its_machine_along(guest: str, settled: Station, ending: str) -> None:
    """Its supervisor is no child of its: the connection is all that holds the machine."""
    child = os.fork()
    if child == 0:
        try:
            box = blocking.Sandbox.run(guest, name="web")
            box.exec(["true"])
            os.kill(os.getpid(), 9) if ending == "kill" else None
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    until(lambda: running(settled) == [])
    assert kinds(settled)[-1] == "end"


def test_a_fork_calls_the_machine_and_ends_nothing(guest: str) -> None:
    with blocking.Sandbox.run(guest) as box:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with box:
                    code = 0 if box.exec(["echo", "child"]).stdout == b"child\n" else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert box.exec(["echo", "parent"]).stdout == b"parent\n"


def test_a_fork_of_a_process_that_left_the_machine_is_told_so(guest: str) -> None:
    reading, writing = os.pipe()
    with blocking.Sandbox.run(guest) as box:
        child = os.fork()
        if child == 0:
            code = 2
            try:
                os.read(reading, 1)
                box.exec(["true"])
            except errors.NotRunning as error:
                code = 0 if f"the process {os.getppid()} left it, of which this one is a fork" in str(error) else 1
            finally:
                os._exit(code)
    os.write(writing, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(writing)


def test_a_fork_that_waits_takes_nothing_from_its_parent(guest: str) -> None:
    with blocking.Sandbox.run(guest) as box:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if box.wait().reason == "stopped" else 1)
            finally:
                os._exit(2)
        box.stop()
        assert box.wait().reason == "stopped"
    assert os.waitpid(child, 0)[1] == 0


def test_a_program_that_changes_its_own_niceness_keeps_its_machine(guest: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            with blocking.Sandbox.run(guest) as box:
                os.nice(1)
                os._exit(box.exec(["true"]).exit_code)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_call_and_wait_at_once(guest: str) -> None:
    said = list[Any]()
    with blocking.Sandbox.run(guest) as box:

        def call(number: int) -> None:
            said.append(box.exec(["echo", str(number)], text=True).stdout)
            said.append(box.wait().reason)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: len(said) == 5)
        box.stop()
        for thread in threads:
            thread.join(EVENT_PATIENCE)
    assert sorted(said) == ["0\n", "1\n", "2\n", "3\n", "4\n", *["stopped"] * 5]


def test_no_thread_and_no_handler_is_left_in_the_caller(guest: str) -> None:
    before = threading.enumerate(), [signal.getsignal(number) for number in signal.valid_signals()]
    with blocking.Sandbox.run(guest) as box:
        box.exec(["true"])
        box.files.read("/hello")
        assert (threading.enumerate(), [signal.getsignal(number) for number in signal.valid_signals()]) == before


def test_a_cancelled_task_ends_its_command(guest: str, settled: Station) -> None:
    async def main() -> None:
        async with aio.Sandbox.run(guest) as box:
            for call in (lambda: box.exec(["linger"]), lambda: _drained(box)):
                task = asyncio.create_task(call())
                count = kinds(settled).count("exec")
                await asyncio.to_thread(until, lambda count=count: kinds(settled).count("exec") > count)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await box.exec(["echo", "on"])).stdout == b"on\n"

    async def _drained(box: Any) -> None:
        async for _ in box.stream(["linger"]):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("delay", [0, 0.05, 0.2, 0.4])
def test_a_start_that_is_cancelled_leaves_no_machine(guest: str, settled: Station, delay: float) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(_run(aio.Sandbox.run(guest)))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def _run(opener: Any) -> None:
        async with opener:
            await asyncio.Event().wait()

    asyncio.run(main())
    gc.collect()
    until(lambda: running(settled) == [])


def test_twenty_at_once_from_one_loop(guest: str) -> None:
    async def one(number: int) -> str:
        async with aio.Sandbox.run(guest) as box:
            return (await box.exec(["echo", str(number)], text=True)).stdout

    async def main() -> list[str]:
        return await asyncio.gather(*map(one, range(20)))

    assert asyncio.run(main()) == [f"{number}\n" for number in range(20)]


@on_both
async def test_the_first_call_makes_neither_keys_nor_a_policy(face: Face, station: Station) -> None:
    calls: list[Callable[[], Any]] = [lambda: face.Sandbox.run("image:hello"), lambda: face.Sandbox.launch("/plan")]
    for call in calls:
        with pytest.raises(errors.SetupMissing, match=r"call mvmnix.initialize\(\) once"):
            await call()
    assert not station.config.joinpath("trust.toml").exists()
    assert not list(station.config.glob("keys/*"))
    await face.initialize()
    assert station.config.joinpath("trust.toml").exists()
    with pytest.raises(errors.InvalidArgument, match="no kept image"):
        await face.Sandbox.run("image:hello")
    await face.initialize()


@pytest.mark.parametrize(
    "text",
    ["import mvmnix", "import mvmnix; mvmnix.__version__; dir(mvmnix)"],
)
def test_importing_the_package_imports_nothing_else(text: str) -> None:
    script = f"import sys; before = set(sys.modules); {text}; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['mvmnix']\n"


def test_a_subinterpreter_is_told_why_not() -> None:
    """cryptography's bindings are loaded once a process: the import works there, and what needs them says so."""
    within = """
import mvmnix
try:
    mvmnix.Sandbox
except ImportError as error:
    print(error)
"""
    script = f"import _interpreters as it; it.run_string(it.create(), {within!r})"
    if sys.version_info >= (3, 14):
        script = f"from concurrent import interpreters; interpreters.create().exec({within!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "does not support loading in subinterpreters" in done.stdout


@on_both
async def test_a_supervisor_that_is_killed_is_unreachable(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest, name="web") as box:
        with open_machine_store(SILENT) as machines:
            supervisor = registry.find_machine(machines, box.id).supervisor
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        with pytest.raises(errors.Unreachable, match="ended without an answer") as failed:
            await box.wait()
        assert isinstance(failed.value, ConnectionError)
