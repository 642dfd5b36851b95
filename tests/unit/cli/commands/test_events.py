"""`mvm events` and `mvm stats`: the log's word about what happened, the kernel's about what is used."""

import json
import os

from mvmnix.machines import usage
from tests.unit.cli.machines import launched
from tests.unit.cli.station import Station

EXEC = ("--verb", "exec")


def events(text: str) -> list[tuple[str, str]]:
    return [(record["kind"], record["machine"]) for record in map(json.loads, text.splitlines())]


def test_what_happened_to_machines(settled: Station) -> None:
    assert settled.mvm("events").out == ""
    first = launched(settled, "true", options=EXEC)
    settled.mvm("wait", first)
    second = launched(settled, "linger", options=EXEC)
    settled.mvm("exec", second, "true")
    assert events(settled.mvm("events").out) == [
        ("start", first),
        ("end", first),
        ("start", second),
        ("exec", second),
    ], "and no admissions, which are about no machine"
    assert events(settled.mvm("events", first).out) == [("start", first), ("end", first)]
    assert events(settled.mvm("events", "-n", "1").out) == [("exec", second)]
    assert settled.mvm("events", "nothing").code == 2


def test_since(settled: Station) -> None:
    settled.mvm("wait", first := launched(settled, "true"))
    settled.mvm("wait", second := launched(settled, "true"))
    both = [("start", first), ("end", first), ("start", second), ("end", second)]
    for moment in ("10m", "2 hours ago", "yesterday", "2026-01-01", "1700000000"):
        assert events(settled.mvm("events", "--since", moment).out) == both
    assert events(settled.mvm("events", "--since", "1h", "-n", "1").out) == both[-1:]
    assert events(settled.mvm("events", "--since", "1h", second).out) == both[2:]
    assert settled.mvm("events", "--since", "2999-01-01").out == ""
    times = [json.loads(line)["time"] for line in settled.mvm("events").out.splitlines()]
    assert events(settled.mvm("events", "--since", times[0]).out) == both
    said = settled.mvm("events", "--since", "soon")
    assert (said.code, said.out, "write 10m, '2 hours ago'" in said.err) == (2, "", True)


def test_what_happens_from_now_on(settled: Station) -> None:
    machine = launched(settled, "linger", options=EXEC)
    following = settled.start("events", "--follow", "--lines", "1", machine)
    assert following.stdout is not None
    assert events(following.stdout.readline().decode()) == [("start", machine)]
    settled.mvm("run", settled.path.joinpath("flakes/hello").as_uri().replace("file://", "path:"), "--", "true")
    settled.mvm("kill", machine)
    assert events(following.stdout.readline().decode()) == [("end", machine)], "and nothing of the other machine"
    following.kill()
    following.communicate()


def test_what_running_machines_use(settled: Station) -> None:
    assert settled.mvm("stats", "--json").answer("stats") == []
    machine = launched(settled, "linger", options=EXEC)
    (row,) = settled.mvm("stats", "--json").answer("stats")
    assert (row["id"], row["processes"], row["consoleBytes"]) == (machine, 1, len(b"booted\n"))
    assert row["residentKiB"] > 1000
    assert row["supervisorResidentKiB"] > 1000
    shown = settled.mvm("stats", machine).out.splitlines()
    assert shown[1].startswith(machine)
    settled.mvm("kill", machine)
    assert len(settled.mvm("stats").out.splitlines()) == 1
    assert settled.mvm("stats", machine, "--json").answer("stats") == []


def test_a_process_that_is_gone_uses_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert usage.by_process(child) == usage.by_descendants(child) == usage.ProcessUsage(0, 0, 0, 0)
    assert usage.by_process(os.getpid()).cpu_ms > 0
