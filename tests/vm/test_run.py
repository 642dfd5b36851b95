"""What a user sees of a run: output, exit codes, reuse, evidence; and what the guest sees of its world."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from mvmnix.formats.strict import parse_json
from mvmnix.keys import Role
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.machines.receipt import from_statement
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.vmm.confinement import IsolationLayer
from tests.conftest import World
from tests.hostile.rig import replaced
from tests.patience import PATIENCE, until
from tests.policies import effective
from tests.vm.machines import machines

pytestmark = pytest.mark.vm


def kinds(world: World) -> list[str]:
    """Of the records of the audit log."""
    tail = world.home.mvm("audit", "tail", "-n", "1000").stdout.decode()
    return [json.loads(line)["kind"] for line in tail.splitlines()]


def sh(world: World, script: str, *, input_: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a script in the hello guest; the plan's command is another one, and the image stays the same."""
    return world.home.mvm(
        "run", "./examples/hello", "--", "/bin/busybox", "sh", "-c", script, cwd=world.tree, stdin=input_
    )


def test_the_first_run_says_what_it_made_and_shows_the_chain(world: World) -> None:
    said = world.first_run.stderr.decode()
    assert world.first_run.stdout == b"Hello from a verified microVM.\n"
    assert "SLSA Build L1" in said
    links = ("flake", "lock", "sources", "derivation", "kernel", "initrd", "rootfs", "manifest.json", "provenance")
    for link in (*links, "plan", "machine", "receipt"):
        assert re.search(rf"│ {link}\s+│", said), link


def test_a_finished_build_is_used_again(world: World) -> None:
    before = [machine for machine in machines(world) if machine["image"] == "builder"]
    again = world.home.mvm("run", "./examples/hello", cwd=world.tree)
    assert (again.returncode, again.stdout) == (0, b"Hello from a verified microVM.\n")
    assert [machine for machine in machines(world) if machine["image"] == "builder"] == before


def test_arguments_arrive_as_they_are_and_a_signal_is_an_exit_code_above_128(world: World) -> None:
    odd = ["two words", "a\nnewline", "grün", "'quoted'", "", "$HOME", "--help"]
    command = ("/bin/busybox", "sh", "-c", 'printf "%s|" "$@"; kill -SEGV $$', "sh")
    done = world.home.mvm("run", "./examples/hello", "--", *command, *odd, cwd=world.tree)
    assert done.returncode == 128 + signal.SIGSEGV, done.stderr.decode()
    assert done.stdout.decode() == "".join(f"{word}|" for word in odd)


def test_a_command_that_is_not_there_is_logged_by_three_records(world: World) -> None:
    before = kinds(world)
    done = world.home.mvm("run", "./examples/hello", "--", "/bin/nosuch", cwd=world.tree)
    assert done.returncode == 127
    assert b"mvm: command not found in the guest: /bin/nosuch\n" in done.stderr
    assert kinds(world)[len(before) :] == ["admission", "start", "end"]
    verified = world.home.mvm("audit", "verify", "--json")
    assert json.loads(verified.stdout)["result"]["records"] == len(before) + 3


#: What the plan's own command looks at, in one machine: itself, its network, its root and its scratch space.
LOOK = """
id -u
ls /sys/class/net
for d in /etc /usr; do touch $d/x || echo read-only; done; touch /tmp/x && echo scratch
dd if=/dev/zero of=/tmp/fill bs=1M count=200 2>&1 | grep -c 'No space'; du -m /tmp/fill | cut -f1
grep -E '^(NoNewPrivs|CapEff|CapPrm|CapBnd|CapInh|CapAmb|Groups)' /proc/self/status
"""


def test_the_workload_is_nobody_special_in_a_root_that_stays_as_it_is(world: World) -> None:
    lines = sh(world, LOOK).stdout.decode().splitlines()
    assert lines[:6] == ["1000", "lo", "read-only", "read-only", "scratch", "1"]
    assert int(lines[6]) <= 32
    fields = dict(line.split(":\t") for line in lines[7:])
    assert fields["NoNewPrivs"] == "1"
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
    assert fields["Groups"].strip() == ""


def test_a_command_that_takes_too_long(world: World, tmp_path: Path) -> None:
    command = ("./examples/hello", "--", "/bin/busybox", "sleep", "1000")
    bundle = world.home.signed_plan(tmp_path, "--timeout", "3", *command, cwd=world.tree)
    assert world.home.mvm("launch", bundle).returncode == 124


def test_streams_and_exit_code_are_the_guests_and_a_signed_receipt_says_who_saw_what(world: World) -> None:
    done = sh(world, "cat; echo to-stderr >&2; exit 3", input_=b"from stdin\n" * 1000)
    assert done.returncode == 3
    assert done.stdout == b"from stdin\n" * 1000
    assert b"to-stderr\n" in done.stderr
    machine = str(machines(world)[-1]["id"])
    kept = world.home.mvm("logs", machine)
    assert (kept.stdout, kept.stderr) == (b"from stdin\n" * 1000, b"to-stderr\n")
    assert world.home.mvm("logs", "--tail", "1", "--stdout", machine).stdout == b"from stdin\n"
    console = (world.home.state / "machines" / machine / "console.log").read_bytes()
    assert world.home.mvm("logs", "--console", machine).stdout == console != b""
    last = machines(world)[-1]
    directory = world.home.state / "machines" / str(last["id"])
    assert (directory / "console.log").stat().st_mode & 0o777 == 0o600
    bundle, policy = (directory / "receipt.sigstore.json").read_bytes(), (world.home.config / "trust.toml").read_bytes()
    authentic = authenticate(bundle, trust=effective(None, policy).trust, role=Role.HOST, what="the receipt")
    receipt = from_statement(statement.parse(authentic.payload))
    assert (receipt.observed.machine, receipt.observed.reason) == (last["id"], EndReason.GUEST_EXIT)
    assert receipt.observed.corruption is None, "after an orderly end nobody looks"
    assert receipt.observed.hypervisor.path.startswith("/usr/bin/qemu")
    assert {IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP} <= set(receipt.observed.confinement)
    assert receipt.reported == ExitStatus(End.EXITED, code=3)
    assert {subject.name for subject in receipt.subjects} == {"kernel", "initrd", "rootfs", "manifest.json"}


def test_a_detached_machine_is_listed_read_and_stopped(world: World, tmp_path: Path) -> None:
    script = "trap 'echo down >&2; exit 0' TERM; echo up; sleep 1000 & wait"
    command = ("./examples/hello", "--", "/bin/busybox", "sh", "-c", script)
    bundle = world.home.signed_plan(tmp_path, *command, cwd=world.tree)
    launched = world.home.mvm("launch", "--detach", "--name", "sleeper", bundle)
    assert launched.returncode == 0, launched.stderr.decode()
    machine = launched.stdout.decode().strip()
    assert [each["name"] for each in machines(world) if each["id"] == machine and each["state"] == "running"] == [
        "sleeper"
    ]
    until(lambda: world.home.mvm("logs", "--stdout", "sleeper").stdout == b"up\n", seconds=PATIENCE)
    assert world.home.mvm("stop", "sleeper").stdout.decode().strip() == machine
    ended = next(each for each in machines(world) if each["id"] == machine)
    assert (ended["state"], ended["ended"]) == ("ended", "stopped")
    kept = world.home.mvm("logs", "sleeper")
    assert (kept.stdout, kept.stderr) == (b"up\n", b"down\n"), "until its end, what it said on being stopped too"


def test_a_flipped_data_block_stops_the_guest_and_is_named(copied: World) -> None:
    manifest = json.loads((copied.hello / "manifest.json").read_bytes())
    stored = copied.home.state / "images" / manifest["artifacts"]["rootfs"]["sha256"]
    times = stored.stat()
    data = bytearray(stored.read_bytes())
    bad = range(20, min(300, manifest["verity"]["dataBlocks"]))  # the busybox binary is somewhere in there
    for block in bad:
        data[block * 4096 + 100] ^= 1
    plan = copied.home.signed_plan(copied.home.path, "./examples/hello", cwd=copied.tree)
    replaced(stored, bytes(data))
    os.utime(stored, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = copied.home.mvm("launch", plan)
    assert done.returncode == 126, done.stderr.decode()
    assert b"refused [verity-mismatch]" in done.stderr
    assert b"Hello" not in done.stdout
    last = machines(copied)[-1]
    assert last["ended"] == "verity-corruption"
    receipt = copied.home.state / "machines" / str(last["id"]) / "receipt.sigstore.json"
    statement = parse_json(envelope.parse_bundle(receipt.read_bytes()).payload)
    assert isinstance(statement, dict)
    named = statement["predicate"]["observedByHost"]["corruptedBlocks"]
    assert (named["count"], named["first"][0]) == (len(bad), min(bad))
