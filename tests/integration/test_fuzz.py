"""Each fuzzer replays its seed corpus, and is shown to find a fault that was put there; `make fuzz` has them fuzz."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.integration

#: Seconds that each fuzzer runs; without any it replays its corpus once.
SECONDS = int(os.environ.get("MVMNIX_FUZZ_SECONDS", "0"))
AGENT = ROOT / "modules" / "agent"
TARGETS = ROOT / "tests" / "fuzz"
PARSERS = (
    "frames.c",
    "requests.c",
    "verbs.c",
    "records.c",
    "secrets.c",
    "shares.c",
    "network.c",
    "bytes.c",
    "errors.c",
)
#: What a conversation needs besides: all that decides which frame is handled when, and nothing that starts or mounts.
TALKERS = (
    *("conversation.c", "freeze.c", "commands.c", "command.c", "channel.c", "exit_report.c", "output_stream.c"),
    *("queue.c", "loop.c", "splice.c", "cached_pages.c", "files.c", "filter.c", "filter_table.c"),
)
LIMITS = (f"-timeout={EVENT_PATIENCE}", "-rss_limit_mb=1024", "-print_final_stats=1")
REPLAY = (f"-max_total_time={SECONDS}",) if SECONDS else ("-runs=0",)
#: Until it finds what was planted, however slow the machine is.
SEARCH = (f"-max_total_time={PATIENCE}",)
SANITIZERS = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")


COMPILER = ("clang-19", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{AGENT}")


def compiled(directory: Path, *flags: str) -> Path:
    """The agent's parsers with the harness."""
    program = directory / "agent-fuzz"
    sources = [str(TARGETS / "agent_target.c"), *(str(AGENT / name) for name in PARSERS)]
    subprocess.run([*COMPILER, *SANITIZERS, *flags, "-o", str(program), *sources], check=True)
    return program


def compiled_conversation(directory: Path, agent: Path = AGENT) -> Path:
    """The agent's conversation with the harness, between the two marks that say where its variables lie."""
    program, end = directory / "conversation-fuzz", directory / "end.o"
    state = str(TARGETS / "agent_state.c")
    subprocess.run([*COMPILER, *SANITIZERS, "-DSTATE_END", "-c", "-o", str(end), state], check=True)
    sources = [state, *(str(agent / name) for name in (*PARSERS, *TALKERS)), str(end)]
    target = str(TARGETS / "conversation_target.c")
    subprocess.run([*COMPILER, *SANITIZERS, "-o", str(program), *sources, target], check=True)
    return program


@pytest.fixture(autouse=True)
def the_corpora_stay_as_they_are() -> Iterator[None]:
    """A fuzzer writes what it finds worth keeping into the first of its directories."""
    before = {path: path.read_bytes() for path in (TARGETS / "corpus").rglob("*") if path.is_file()}
    yield
    after = {path: path.read_bytes() for path in (TARGETS / "corpus").rglob("*") if path.is_file()}
    assert after == before


def fuzz(
    directory: Path, *argv: str | Path, corpus: Path, house: Path = ROOT, how: tuple[str, ...] = REPLAY
) -> "subprocess.CompletedProcess[str]":
    """One run, with the modules of `house`; what it finds worth keeping goes into a directory of the test's own."""
    grown = directory / "grown"
    grown.mkdir()
    command = [*map(str, argv), *how, *LIMITS, f"-artifact_prefix={directory}/", str(grown), str(corpus)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(house), "HOME": str(directory)}
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS + 2 * PATIENCE,
        check=False,
    )


def executed(done: "subprocess.CompletedProcess[str]") -> int:
    """How many inputs a fuzzer says that it tried."""
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)|Done (\d+) runs", done.stderr)
    assert found, done.stderr[-2000:]
    return int(found[1] or found[2])


def test_seeds_are_those_that_are_made() -> None:
    for directory, made in ((directory, dict(make())) for directory, make in seeds.CORPORA.items()):
        kept = {path.name: path.read_bytes() for path in directory.iterdir()}
        assert made.items() <= kept.items(), "run `python -m tests.fuzz.seeds`"


def test_the_agent_s_parsers(tmp_path: Path) -> None:
    done = fuzz(tmp_path, compiled(tmp_path), "-max_len=8192", corpus=seeds.AGENT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert executed(done) >= len(list(seeds.AGENT.iterdir()))


def test_a_planted_overflow_is_found(tmp_path: Path) -> None:
    done = fuzz(tmp_path, compiled(tmp_path, "-DPLANTED_BUG"), "-max_len=8192", corpus=seeds.AGENT, how=SEARCH)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_the_agent_s_conversation(tmp_path: Path) -> None:
    """What the agent complains about goes to its standard error, which is closed."""
    program = compiled_conversation(tmp_path)
    done = fuzz(tmp_path, program, "-max_len=8192", "-close_fd_mask=2", corpus=seeds.CONVERSATION)
    assert done.returncode == 0, done.stderr[-4000:]
    assert executed(done) >= len(list(seeds.CONVERSATION.iterdir()))


@pytest.mark.parametrize(
    ("name", "text", "planted"),
    [
        ("conversation.c", "if (phase == STOPPED || phase == FAILED)", "if (phase == STOPPED)"),
        ("freeze.c", "if (renewed != 0)", "if (renewed > 0)"),
    ],
    ids=["frames after a failed configuration", "a thaw without a renewal"],
)
def test_a_missing_check_is_found(tmp_path: Path, name: str, text: str, planted: str) -> None:
    """The same target over a copy of the agent that lacks it."""
    copy = tmp_path / "agent"
    shutil.copytree(AGENT, copy)
    before = (copy / name).read_text()
    assert before.count(text) == 1
    (copy / name).write_text(before.replace(text, planted))
    program = compiled_conversation(tmp_path, copy)
    done = fuzz(tmp_path, program, "-max_len=8192", "-close_fd_mask=2", corpus=seeds.CONVERSATION, how=SEARCH)
    assert done.returncode != 0
    assert "deadly signal" in done.stderr


def test_the_host_s_end_of_the_channel(tmp_path: Path) -> None:
    done = fuzz(tmp_path, sys.executable, TARGETS / "channel_target.py", "-max_len=4096", corpus=seeds.CHANNEL)
    assert done.returncode == 0, done.stderr[-4000:]
    assert executed(done) >= len(list(seeds.CHANNEL.iterdir()))


def copied(directory: Path, module: str, text: str, planted: str) -> Path:
    """A copy of the checkout's Python with one text of a module replaced."""
    copy = directory / "house"
    for name in ("mvmnix", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "vm", "hostile"))
    path = copy / "mvmnix" / module
    before = path.read_text()
    assert before.count(text) == 1
    path.write_text(before.replace(text, planted))
    return copy


def test_a_planted_exception_is_found(tmp_path: Path) -> None:
    """The same target over a copy of the parser that lets one exception through."""
    raised = '            raise {}(f"flags'
    text, planted = raised.format("ChannelProtocolError"), raised.format("KeyError")
    copy = copied(tmp_path, "launch/agent/transport.py", text, planted)
    target = copy / "tests" / "fuzz" / "channel_target.py"
    done = fuzz(tmp_path, sys.executable, target, corpus=seeds.CHANNEL, house=copy, how=SEARCH)
    assert done.returncode != 0
    assert "KeyError" in done.stderr + done.stdout


#: By the parser of what a guest says on the network: its target, corpus, and longest input.
NETWORK = {
    "client hello": ("client_hello_target.py", seeds.CLIENT_HELLO, 20000),
    "resolver": ("resolver_target.py", seeds.RESOLVER, 1500),
    "http": ("http_target.py", seeds.HTTP, 4096),
}


@pytest.mark.parametrize("parser", NETWORK)
def test_the_parsers_of_the_network(parser: str, tmp_path: Path) -> None:
    target, corpus, longest = NETWORK[parser]
    done = fuzz(tmp_path, sys.executable, TARGETS / target, f"-max_len={longest}", corpus=corpus)
    assert done.returncode == 0, done.stderr[-4000:]
    assert executed(done) >= len(list(corpus.iterdir()))


_TAKEN = "if length > self.rest:\n            raise "
#: By the parser: a module, a text of it and what is there instead, and what the fuzzer says then.
PLANTED = [
    (
        "client hello",
        "client_hello.py",
        f"{_TAKEN}HelloRefusedError(HelloFault.MALFORMED)",
        f"{_TAKEN}KeyError",
        "KeyError",
    ),
    ("client hello", "client_hello.py", "if not data.isascii():", "if False:", "UnicodeDecodeError"),
    ("resolver", "resolver.py", "except (dns.exception.DNSException, ValueError):", "except ValueError:", "dns."),
    (
        "http",
        "http_heads.py",
        "value.lower() in {host.encode(),",
        "value.lower()[-9:] in {host.encode(),",
        "AssertionError",
    ),
]


@pytest.mark.parametrize(("parser", "module", "text", "planted", "shown"), PLANTED)
def test_a_fault_in_a_parser_of_the_network_is_found(
    parser: str, module: str, text: str, planted: str, shown: str, tmp_path: Path
) -> None:
    target, corpus, longest = NETWORK[parser]
    copy = copied(tmp_path, f"network/gateway/{module}", text, planted)
    argv = (sys.executable, copy / "tests" / "fuzz" / target, f"-max_len={longest}")
    done = fuzz(tmp_path, *argv, corpus=corpus, house=copy, how=SEARCH)
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stderr + done.stdout
    assert shown in done.stderr + done.stdout


def test_the_readers_of_a_snapshot(tmp_path: Path) -> None:
    done = fuzz(tmp_path, sys.executable, TARGETS / "snapshot_target.py", "-max_len=66000", corpus=seeds.SNAPSHOT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert executed(done) >= len(list(seeds.SNAPSHOT.iterdir()))


def test_a_claim_that_is_not_refused_in_order_is_found(tmp_path: Path) -> None:
    text = "except strict.MalformedError as error:\n        raise error.refused"
    copy = copied(tmp_path, "launch/snapshots/statement.py", text, text.replace("strict.MalformedError", "KeyError"))
    argv = (sys.executable, copy / "tests" / "fuzz" / "snapshot_target.py")
    done = fuzz(tmp_path, *argv, corpus=seeds.SNAPSHOT, house=copy, how=SEARCH)
    assert done.returncode != 0
    assert "MalformedError" in done.stderr + done.stdout
