"""Commands in a sandbox, on both faces: results, bounds, streams, pipes, and what is refused before it is sent."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from mvmnix import aio
from mvmnix import errors as own_errors
from mvmnix.sdk import errors
from mvmnix.sdk.results import ExitEvent, OutputEvent
from tests.patience import EVENT_PATIENCE, SHORT
from tests.unit.cli.machines import kinds
from tests.unit.cli.station import Station
from tests.unit.sdk.faces import Face, on_both

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@on_both
async def test_a_command_has_a_result(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        done = await box.exec(["echo", "--help", "two words"])
        assert (done.stdout, done.stderr, done.exit_code) == (b"--help two words\n", b"", 0)
        assert done.duration > 0
        done = await box.exec(["complain", "no"])
        assert (done.stdout, done.stderr, done.exit_code) == (b"", b"no", 3)
        done = await box.exec(["cat"], input="grüße", text=True)
        assert done.stdout == "grüße"
        done = await box.exec(["printenv", "A"], env={"A": "1"})
        assert done.stdout == b"1"
        done = await box.exec(["cat"], input=b"\xff", text=True)
        assert done.stdout == "\N{REPLACEMENT CHARACTER}"


@on_both
async def test_a_user_is_named_by_numbers_or_by_a_name_that_the_guest_knows(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        for user, found in (("7", b"7:7"), ("7:8", b"7:8"), ("app", b"1234:99"), ("app:5", b"1234:5")):
            assert (await box.exec(["id"], user=user)).stdout == found
        async with box.popen(["id"], user="app") as process:
            process.stdin.close()
            assert await process.stdout.read() == b"1234:99"
        events = [event async for event in box.stream(["id"], user="app")]
        assert events[:-1] == [OutputEvent("stdout", b"1234:99")]
    async with face.Sandbox.run(guest, verbs=["exec"]) as box:
        with pytest.raises(errors.NotGranted, match="copy"):
            await box.exec(["id"], user="app")


@on_both
async def test_a_process_that_was_let_go_of_has_no_end_to_wait_for(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        async with box.popen(["true"]) as process:
            process.stdin.close()
        with pytest.raises(errors.OutcomeUnknown, match="'true' was let go of before its end was waited for"):
            await process.wait()


@on_both
async def test_a_failure_is_a_result_unless_it_is_to_be_checked(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(errors.CommandFailed, match="'complain' ended with exit code 3") as failed:
            await box.exec(["complain", "no"], check=True, text=True)
        assert failed.value.result.stderr == "no"
        assert (await box.exec(["true"], check=True)).exit_code == 0


@on_both
async def test_a_program_that_is_not_there_is_no_file(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(FileNotFoundError, match="nosuch: No such file or directory") as missing:
            await box.exec(["nosuch"])
        assert isinstance(missing.value, errors.FileNotFound)
        assert (missing.value.filename, missing.value.reasons[0].code) == ("nosuch", "file-not-found")


@on_both
async def test_a_command_that_takes_too_long_is_killed(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(TimeoutError, match="'linger' did not end in its time") as late:
            await box.exec(["linger"], timeout=SHORT)
        assert isinstance(late.value, errors.TimedOut)
        with pytest.raises(errors.TimedOut):
            async for _ in box.stream(["linger"], timeout=SHORT):
                pass
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"
    assert kinds(settled).count("exec") == 3


@on_both
async def test_what_is_kept_of_an_output_is_bounded(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(errors.OutputLimitExceeded, match="more than 4 bytes on stdout") as much:
            await box.exec(["cat"], input=b"123456789", output_limit=4)
        assert (much.value.stdout, much.value.stderr) == (b"1234", b"")
        with pytest.raises(errors.OutputLimitExceeded) as much:
            await box.exec(["complain", "12345"], output_limit=4)
        assert (much.value.stdout, much.value.stderr) == (b"", b"1234")
        assert (await box.exec(["cat"], input=b"1234", output_limit=4)).stdout == b"1234"


@on_both
async def test_a_stream_has_what_comes_and_then_the_end(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        *said, end = [event async for event in box.stream(["cat"], input=bytes(200_000))]
        assert {event.stream for event in said} == {"stdout"}
        assert b"".join(event.data for event in said) == bytes(200_000)
        assert isinstance(end, ExitEvent)
        assert end.exit_code == 0
        *said, end = [event async for event in box.stream(["complain", "no"])]
        assert (said, end.exit_code) == ([OutputEvent("stderr", b"no")], 3)
        with pytest.raises(errors.FileNotFound):
            _ = [event async for event in box.stream(["nosuch"])]


@on_both
async def test_leaving_a_stream_ends_its_command(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        async with box.stream(["linger"]) as stream:
            stream.close()
            assert [event async for event in stream] == []
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"


@on_both
async def test_a_process_has_pipes(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box, box.popen(["cat"]) as process:
        await process.stdin.write(b"one\ntwo")
        process.stdin.close()
        assert await process.stdout.readline() == b"one\n"
        assert await process.stdout.read(2) == b"tw"
        assert await process.stdout.read() == b"o"
        assert await process.stdout.read() == b""
        assert [line async for line in process.stderr] == []
        assert await process.wait() == process.exit_code == 0
        with pytest.raises(ValueError, match="standard input was closed"):
            await process.stdin.write(b"more")


@on_both
async def test_a_process_can_be_waited_for_and_killed(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box, box.popen(["linger"]) as process:
        with pytest.raises(errors.TimedOut, match="'linger' has not ended in its time"):
            await process.wait(SHORT)
        process.kill()
        assert await process.wait() == 128 + 9
        process.close()
        process.close()


@on_both
async def test_a_terminal_is_the_guests(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box, box.terminal(term="vt100", rows=10, columns=20) as terminal:
        assert await terminal.stdout.readline() == b"a shell vt100 10x20\r\n"
        terminal.resize(30, 40)
        assert await terminal.stdout.read(7) == b"[30x40]"
        await terminal.stdin.write(b"\x04")
        assert await terminal.wait() == 7


@on_both
async def test_a_shell_is_asked_for_by_its_name_alone(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(TypeError, match=r"a list of words: \['echo', 'a b'\]; a shell reads it by box.shell\("):
            await box.exec("echo 'a b'")
        with pytest.raises(TypeError, match=r"\['echo', \"'a\"\]"):
            await box.exec("echo 'a")
        with pytest.raises(TypeError, match="script is a str, and this one is a list of str"):
            await box.shell(["ls"])
        with pytest.raises(FileNotFoundError, match="sh: No such file"):
            await box.shell("ls | wc -l")


WRONG: list[tuple[list[Any], dict[str, Any], str]] = [
    ([], {}, "there is no command"),
    (["true"], {"user": "nobody"}, "has no user 'nobody'"),
    (["true"], {"user": "1:2:3"}, "names no user of a guest"),
    (["true", "x" * 200_000], {}, "this can't be run"),
    (["true", "a\0b"], {}, r"argv\[1\] has a NUL character"),
    (["true", "\udcff"], {}, r"argv\[1\] has half of a surrogate pair"),
    (["true"], {"env": {"A": "a\0b"}}, r"env\['A'\] has a NUL character"),
    (["true"], {"cwd": "/" * 5000}, "^cwd: not a string of the expected form"),
    (["true"], {"cwd": "relative"}, "relative"),
    (["true"], {"env": {"A=B": "1"}}, "an equals sign"),
]


@pytest.mark.parametrize(("argv", "options", "why"), WRONG, ids=[row[2] for row in WRONG])
@on_both
async def test_what_cannot_be_meant(face: Face, guest: str, argv: list[str], options: dict[str, Any], why: str) -> None:
    async with face.Sandbox.run(guest) as box:
        calls: list[Callable[[], Any]] = [
            lambda: box.exec(argv, **options),
            lambda: box.popen(argv, **options),
            lambda: anext(aiter(box.stream(argv, **options))),
        ]
        for call in calls:
            with pytest.raises(errors.InvalidArgument, match=why) as wrong:
                async with await call() as process:
                    await process.wait()
            assert isinstance(wrong.value, ValueError)
            assert "different versions" not in str(wrong.value)


@on_both
async def test_a_terminal_that_cannot_be(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box:
        for options, why in (({"rows": 0}, "rows: not an integer from 1 to"), ({"term": "a b"}, "term: not a string")):
            with pytest.raises(errors.InvalidArgument, match=why):
                await box.terminal(**options)
    assert kinds(settled).count("shell") == 0


@on_both
async def test_a_word_that_is_none_is_named(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        for call in (box.exec, box.popen, box.stream, box.terminal):
            with pytest.raises(TypeError, match=r"argv\[1\] is a str, and this one is an int"):
                await call(["sleep", 1])


@on_both
async def test_a_verb_that_is_not_granted_is_refused_before_anything_is_sent(
    face: Face, guest: str, settled: Station
) -> None:
    async with face.Sandbox.run(guest, verbs=["copy"]) as box:
        assert box.verbs == {"copy"}
        calls: list[Callable[[], Any]] = [
            lambda: box.exec(["true"]),
            lambda: box.popen(["true"]),
            box.terminal,
            lambda: anext(aiter(box.stream(["true"]))),
        ]
        for call in calls:
            with pytest.raises(PermissionError, match="verb-not-granted") as refused:
                await call()
            assert isinstance(refused.value, errors.NotGranted)
            assert "verbs=[" in refused.value.reasons[0].hint
    assert kinds(settled).count("exec") == kinds(settled).count("refusal") == 0


@on_both
async def test_a_supervisor_judges_by_itself(face: Face, guest: str) -> None:
    """A program that takes the plan to grant more than it does is refused by the other end."""
    async with face.Sandbox.run(guest, verbs=["copy"]) as box:
        machine = (box._target if face.name == "blocking" else box)._machine
        machine.verbs = frozenset({"exec", "copy"})
        with pytest.raises(errors.NotGranted, match="the plan doesn't grant this verb"):
            await box.exec(["true"])


@on_both
async def test_a_machine_that_ends_ends_each_call(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box, box.popen(["linger"]) as process:
        await box.kill()
        with pytest.raises(errors.OutcomeUnknown, match="ended before it answered"):
            await process.wait()
        with pytest.raises(errors.NotRunning, match="isn't running"):
            await box.exec(["true"])
    listed = json.loads(settled.mvm("ps", "--json").out)["result"]
    assert listed == []


@on_both
async def test_a_command_without_a_terminal_has_no_size(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box, box.popen(["linger"]) as process:
        process.resize(24, 80)
        for call, given in ((process.signal, (0,)), (process.signal, (65,)), (process.resize, (0, 0))):
            with pytest.raises(errors.InvalidArgument):
                call(*given)
        with pytest.raises(errors.TimedOut):
            await process.wait(SHORT)


@on_both
async def test_who_reads_slowly_is_not_told_that_the_command_was_slow(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box, box.stream(["echo", "x"], timeout=20 * SHORT) as stream:
        events = []
        async for event in stream:
            events.append(event)
            time.sleep(21 * SHORT)  # noqa: ASYNC251 - the program does something else
        assert events[-1].exit_code == 0


def test_more_calls_than_are_served_at_a_time(guest: str) -> None:
    async def main() -> None:
        async with aio.Sandbox.run(guest) as box:
            done = await asyncio.gather(*(box.exec(["echo", str(number)]) for number in range(80)))
            assert [each.stdout for each in done] == [b"%d\n" % number for number in range(80)]

    asyncio.run(main())


def test_two_tasks_wait_for_one_process(guest: str) -> None:
    async def main() -> None:
        async with aio.Sandbox.run(guest) as box, box.popen(["cat"]) as process:
            waiting = [asyncio.create_task(process.wait(EVENT_PATIENCE)) for _ in range(3)]
            await asyncio.sleep(SHORT)
            process.stdin.close()
            assert await asyncio.gather(*waiting) == [0, 0, 0]

    asyncio.run(main())


def test_a_pipe_that_is_closed_under_a_task_holds_up_no_other(guest: str) -> None:
    """The next descriptor has the same number."""

    async def main() -> None:
        async with aio.Sandbox.run(guest) as box:
            async with box.popen(["linger"]) as process:
                reading = asyncio.create_task(process.stdout.readline())
                await asyncio.sleep(SHORT)
            async with box.popen(["echo", "x"]) as other:
                other.stdin.close()
                assert await other.stdout.readline() == b"x\n"
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(main())


def test_an_error_is_mvms_too() -> None:
    """A program that caught mvm's own errors goes on to."""
    assert issubclass(errors.Error, own_errors.MvmnixError)
