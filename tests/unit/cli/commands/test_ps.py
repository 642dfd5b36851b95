"""`mvm ps`, `inspect`, `wait`, `stop`, `kill` and `rm`: by the kernel's word."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.patience import until
from tests.repository import ROOT
from tests.unit.cli.machines import launched, supervisor_of
from tests.unit.cli.station import Station


def test_nothing_runs(settled: Station) -> None:
    said = settled.mvm("ps")
    assert said.code == 0
    assert said.out.split() == ["ID", "NAME", "IMAGE", "STATE", "ACCELERATOR", "CREATED", "ENDED", "EXIT"]
    assert settled.mvm("ps", "--json").answer("machines") == []


def test_a_machine_that_has_ended(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "complain")
    assert settled.mvm("ps", "--json").answer("machines") == []
    (machine,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (machine["name"], machine["image"], machine["state"]) == ("web", "hello", "ended")
    assert (machine["exitCode"], machine["ended"]) == (3, "guest-exit")
    row = settled.mvm("ps", "--all").out.splitlines()[1]
    assert row.startswith(f"{machine['id']}  web   hello  ended  ")


def test_what_is_not_there(settled: Station) -> None:
    settled.mvm("run", settled.flake(), "--", "true")
    for command in ("stop", "logs"):
        for name in ("nothing", "", "../x"):
            said = settled.mvm(command, name)
            assert said.code == 2
            assert "mvm ps --all lists them" in said.err


def test_a_machine_that_does_not_run_can_t_be_stopped(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    said = settled.mvm("stop", "web")
    assert said.code == 2
    assert "isn't running" in said.err


def test_a_supervisor_that_was_killed_leaves_an_end_in_the_log(settled: Station) -> None:
    machine = launched(settled, "linger", name="web")
    (alive,) = settled.mvm("ps", "--json").answer("machines")
    assert (alive["id"], alive["state"]) == (machine, "running")
    os.kill(supervisor_of(settled, machine), signal.SIGKILL)
    until(lambda: settled.mvm("ps", "--json").answer("machines") == [])
    (dead,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (dead["state"], dead["ended"]) == ("ended", "supervisor-died")
    last = json.loads(settled.mvm("audit", "tail", "-n", "1").out)
    assert (last["kind"], last["machine"]) == ("end", machine)
    assert settled.mvm("wait", "web").out == "supervisor-died\n"


@pytest.mark.parametrize("command", ["stop", "kill"])
def test_machines_are_ended(settled: Station, command: str) -> None:
    first, second = launched(settled, "linger", name="web"), launched(settled, "linger")
    said = settled.mvm(command, "web", second)
    assert (said.code, said.out) == (0, f"{first}\n{second}\n")
    assert settled.mvm("ps", "--json").answer("machines") == []
    shown = settled.mvm("inspect", "web").answer("machine")
    assert (shown["state"], shown["ended"], shown["supervisor"]) == ("ended", "stopped", None)
    assert "receipt.sigstore.json" in shown["files"], "it was its supervisor that ended it"
    again = settled.mvm(command, "web")
    assert again.code == 2
    assert "isn't running" in again.err


def test_a_killed_guest_is_not_asked(settled: Station) -> None:
    """The fake's `sleep` hears nothing meanwhile: to ask it takes the whole grace, which is long here."""
    machine = launched(settled, "sleep", "60")
    os.kill(supervisor_of(settled, machine), 0)
    assert settled.mvm("kill", machine).code == 0
    assert settled.mvm("inspect", machine).answer("machine")["ended"] == "stopped"


def test_removal(settled: Station) -> None:
    first, second = launched(settled, "true"), launched(settled, "linger")
    assert settled.mvm("wait", first).out == "0\n"
    refused = settled.mvm("rm", first, second)
    assert (refused.code, refused.out) == (2, f"{first}\n")
    assert f"mvm stop {second}" in refused.err
    assert settled.mvm("rm", "--force", second).out == f"{second}\n"
    assert settled.mvm("ps", "--all", "--json").answer("machines") == []
    assert [path.name for path in (settled.state / "machines").iterdir()] == ["register.lock"]
    kinds = [json.loads(line)["kind"] for line in settled.mvm("audit", "tail").out.splitlines()]
    assert (kinds.count("start"), kinds.count("end")) == (2, 2)
    assert settled.mvm("rm", first).code == 2


def test_wait_prints_what_the_command_exited_with(settled: Station) -> None:
    first, second = launched(settled, "complain"), launched(settled, "true")
    assert settled.mvm("wait", first, second).out == "3\n0\n"
    assert settled.mvm("wait", "nothing").code == 2


def test_labels_and_filters(settled: Station) -> None:
    web = launched(settled, "linger", name="web", options=("-l", "tier=front", "-l", "team=a"))
    database = launched(settled, "true", name="db", options=("-l", "tier=back", "-l", "team=a"))
    settled.mvm("wait", database)
    # the oldest first; of one second, by id
    aged = sorted((settled.mvm("inspect", it).answer("machine")["created"], it) for it in (web, database))
    both = "".join(f"{machine}\n" for _, machine in aged)

    def listed(*filters: str) -> str:
        said = settled.mvm("ps", "--all", "--quiet", *(word for text in filters for word in ("--filter", text)))
        assert said.code == 0, said.err
        return {"": "", f"{web}\n": "web", f"{database}\n": "db", both: "both"}[said.out]

    assert listed() == listed("label=tier") == listed("label=team=a") == listed("name=web", "name=db") == "both"
    assert (
        listed("label=tier=front") == listed("name=web") == listed("state=running") == listed(f"id={web[:6]}") == "web"
    )
    assert listed("ended=guest-exit") == listed("state=ended", "image=hello") == "db"
    assert listed("label=tier=front", "label=tier=back") == listed("label=no") == listed("image=other") == ""
    assert settled.mvm("ps", "--json").answer("machines")[0]["labels"] == {"tier": "front", "team": "a"}
    for bad in ("tier", "tier=front", "state=flying", "name="):
        said = settled.mvm("ps", "--filter", bad)
        assert said.code == 2
        assert repr(bad) in said.err or "'flying'" in said.err
    settled.mvm("rm", "--force", web)


@pytest.mark.parametrize("label", ["Tier=x", "=x", "a=\x1b[2J", "a=" + "x" * 129, "-a=b"])
def test_labels_that_no_plan_may_have(settled: Station, label: str) -> None:
    said = settled.mvm("plan", "create", "--label", label, settled.flake())
    assert said.code == 2
    assert "label" in said.err


def test_without_a_host_key_the_end_of_a_machine_can_t_be_written_down(settled: Station) -> None:
    machine = launched(settled, "linger")
    supervisor = supervisor_of(settled, machine)
    os.rename(settled.config / "keys/host.pem", settled.path / "gone")  # noqa: PTH104
    assert settled.mvm("ps").code == 0, "there is no end to be written down"
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: "its end can't be recorded" in settled.mvm("ps").err)
    said = settled.mvm("ps", "--json")
    assert (said.code, said.answer("machines")) == (0, []), "the others are listed all the same"
    assert "mvm key create host" in said.err
    assert settled.mvm("wait", machine).out == "dead\n"


def test_looking_at_machines_loads_no_cryptography() -> None:
    """It is typed often, and needs none as long as nobody was killed."""
    commands = "mvmnix.cli.commands.ps, mvmnix.cli.commands.stop, mvmnix.cli.commands.exec, mvmnix.cli.commands.logs"
    program = f"import {commands}, sys; sys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT)
    heavy = {"asyncio", "cryptography", "jsonschema", "rich", "sigstore", "urllib3", "mvmnix.api.context"}
    assert not heavy & set(done.stdout.decode().split())
