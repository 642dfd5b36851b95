"""A file that can't be looked at or closed without a wait stalls what its caller asked for, and nothing else."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.api import launch
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.control import calls
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import Exec, Stream
from mvmnix.launch.control.start_messages import Mode, Reply, SharesOpened, Taken, parse_event
from mvmnix.launch.shares.opening import open_shares
from mvmnix.launcher import session
from mvmnix.machines import registry
from mvmnix.plan.share import Access, Share
from mvmnix.system.descriptors import send_packet
from tests.support.stalling_files import StallingFiles, stalling_files
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station
from tests.unit.launcher.requests import REQUEST, ask, handed
from tests.unit.launcher.serving import Serving, serving
from tests.unit.launcher.talk import Talk

pytestmark = pytest.mark.root("only root mounts a file system without a user namespace, in which no caller is")


@pytest.fixture
def launcher(settled: Station, tmp_path: Path) -> Iterator[Serving]:
    """A launcher for this process."""
    check = CallerCheck.of_this_process()
    with serving(tmp_path, lambda connection: session.serve(connection, check)) as made:
        yield made


@pytest.fixture
def files(launcher: Serving) -> Iterator[StallingFiles]:
    """Files that were opened after the launcher was started, which has none of them so."""
    with stalling_files() as made:
        yield made


def refusal(launcher: Serving, found: dict[str, int], stream: Stream | None = None) -> MvmnixError:
    """Ask for a machine, with a stream that is among the descriptors if it is named; the answer, which is none."""
    request = REQUEST if stream is None else replace(REQUEST, mode=Mode.ATTACHED, streams=(stream,))
    with pytest.raises(MvmnixError) as refused:
        ask(Connection(launcher.connect()), found, request)
    return refused.value


def test_a_stream_that_stalls_is_refused(settled: Station, launcher: Serving, files: StallingFiles) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        for stream in (Stream.STDIN, Stream.STDOUT):
            error = refusal(launcher, found | {stream: files.open()}, stream)
            assert isinstance(error, UsageError)
            assert f"{stream} is not a pipe" in error.message
        assert isinstance(refusal(launcher, found), RefusedError)


def test_a_plan_that_stalls_is_refused(settled: Station, launcher: Serving, files: StallingFiles) -> None:
    with settled.rooms() as context, handed(context.roots) as found:
        error = refusal(launcher, found | {"plan": files.open(os.O_RDONLY)})
        assert isinstance(error, UsageError)
        assert "what was handed over for the plan can't be used: it is not sealed memory" in error.message


@pytest.mark.parametrize("name", ["state", "probe"])
def test_a_file_whose_look_stalls_holds_up_its_own_start(
    settled: Station, launcher: Serving, files: StallingFiles, name: str
) -> None:
    with settled.rooms() as context, handed(context.roots) as found, Connection(launcher.connect()) as stalled:
        given = found | {name: files.open()}
        run(stalled.send(REQUEST, [given[each] for each in REQUEST.descriptors]))
        assert isinstance(parse_event(run(stalled.receive()).data), Taken)
        for _ in range(3):
            error = refusal(launcher, found)
            assert isinstance(error, RefusedError)
            assert ReasonCode.CALLER_REFUSED not in error.codes
        files.end()
        answer = parse_event(run(stalled.receive()).data)
        assert isinstance(answer, Failure)


def test_descriptors_that_nobody_reads_hold_up_no_other_caller(launcher: Serving, files: StallingFiles) -> None:
    """Several at once: a fork that had one of them would stall where it closes it."""
    for _ in range(3):
        with launcher.connect() as connection:
            send_packet(connection, b"", [files.open() for _ in range(5)])
        assert launcher.ask(b"{}")


def test_a_proof_that_stalls_is_refused(said: Talk, files: StallingFiles, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    shares = (Share(str(tmp_path / "shared"), "/data", Access.READ_WRITE),)
    opened = open_shares(shares)
    said.say(SharesOpened(("/data",)), (opened.directories["/data"], files.open()))
    opened.close()
    found = said.conversation.open_shares(shares)
    assert ["doesn't show that it may be written" in reason.why for reason in found.reasons] == [True]


def test_an_answer_with_a_file_that_stalls_is_an_answer(said: Talk, files: StallingFiles) -> None:
    said.say(Reply("x"), (files.open(), files.open()))
    assert said.conversation.ask("?") == "x"


def test_a_call_whose_stream_stalls_holds_up_no_other(settled: Station, files: StallingFiles) -> None:
    plan = signed(settled, "--verb", "exec", reference=settled.flake(verbs=["exec"]), command=("linger",)).read_bytes()
    with settled.rooms() as context:
        with run(launch.start_machine(context, plan, launch.StartOptions(mode=Mode.HELD))) as made:
            streams = (Stream.STDIN, Stream.STDOUT, Stream.STDERR)
            with run(made.connect()) as connection, pytest.raises(MvmnixError, match="stdin is not a pipe"):
                run(calls.call(connection, Exec(("true",), streams=streams), [files.open() for _ in streams]))
            with run(made.connect()) as connection:
                assert run(calls.call(connection, Exec(("true",)))) is not None
            made.stop()
            run(made.finish())
        assert [entry.alive for entry in registry.list_entries(context.machines)] == [False]
