"""Machines that start from a template, in real jails: no twins, and cold where the template isn't good."""

import json
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from mvmnix.keys import Role
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt, from_statement
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.verify.authentication import authenticate
from tests.conftest import World
from tests.hostile.rig import replaced
from tests.patience import PATIENCE
from tests.policies import effective
from tests.vm.machines import HELLO

pytestmark = pytest.mark.vm

#: What a guest draws and is: a line each.
LOOK = """
bb=/bin/busybox
$bb head -c 16 /dev/urandom | $bb hexdump -v -e '16/1 "%02x" "\\n"'
$bb cat /proc/sys/kernel/random/uuid
$bb cat /proc/sys/kernel/random/boot_id
$bb hostname
$bb cat /etc/machine-id 2>/dev/null || echo "$bb $$"
$bb date +%s
"""
TRUE = ("--", "/bin/busybox", "true")
#: The image is a sealed one, which boots unless it is told otherwise.
ANY = ("--start", "any")


def receipts(world: World, before: AbstractSet[Path] = frozenset()) -> dict[Path, Receipt]:
    """The receipts of all machines but some, verified."""
    trust = effective(None, (world.home.config / "trust.toml").read_bytes()).trust
    found = {}
    for path in {*(world.home.state / "machines").glob("*/receipt.sigstore.json")} - before:
        authentic = authenticate(path.read_bytes(), trust=trust, role=Role.HOST, what="the receipt")
        found[path] = from_statement(statement.parse(authentic.payload))
    return found


def started(world: World, *words: str) -> tuple[Receipt, str]:
    """Run a machine to its end: its receipt, and what was told about it."""
    before = receipts(world).keys()
    done = world.home.mvm("--verbose", "run", *ANY, *words, cwd=world.tree)
    assert done.returncode == 0, done.stderr.decode()
    (receipt,) = receipts(world, before).values()
    return receipt, done.stderr.decode()


def templates(world: World) -> list[dict[str, object]]:
    listed = world.home.mvm("warm", "ls", "--json")
    assert listed.returncode == 0, listed.stderr.decode()
    return list(json.loads(listed.stdout)["result"])


def files(world: World) -> list[Path]:
    return [*(world.home.state / "templates").glob("*.template")]


@pytest.fixture
def warmed(copied: World) -> World:
    """A world with a template of the hello image alone, made in it."""
    for path in files(copied):
        path.unlink()
    made = copied.home.mvm("warm", HELLO, cwd=copied.tree)
    assert made.returncode == 0, made.stderr.decode()
    return copied


def test_a_template_is_a_start_like_any_other(warmed: World) -> None:
    (template,) = templates(warmed)
    (path,) = files(warmed)
    assert (template["image"], path.stem) == ("hello", str(template["key"]).removeprefix("sha256:"))
    (receipt,) = (it for it in receipts(warmed).values() if it.observed.machine == template["machine"])
    assert (receipt.observed.reason, receipt.observed.template) == (EndReason.SAVED, None)
    log = [json.loads(line) for line in warmed.home.mvm("audit", "tail", "-n", "100").stdout.splitlines()]
    kinds = [record["kind"] for record in log if record.get("machine") == template["machine"]]
    assert kinds == ["start", "end"]
    assert warmed.home.mvm("audit", "verify").returncode == 0


def test_two_of_one_template_at_once_are_no_twins(warmed: World) -> None:
    (template,) = templates(warmed)
    before, began = receipts(warmed).keys(), int(time.time())
    command = ("run", *ANY, HELLO, "--", "/bin/busybox", "sh", "-c", LOOK)
    both = [warmed.home.start(*command, cwd=warmed.tree) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lines = [out.decode().splitlines() for out, _ in said]
    (random, uuid, boot, host, machine, date) = zip(*lines, strict=True)
    for name, drawn in {"random": random, "uuid": uuid, "boot id": boot, "host name": host}.items():
        assert len({*drawn}) == 2, name
    for drawn in (random, uuid, boot):
        assert all(map(len, drawn))
    assert all(began <= int(seconds) <= int(time.time()) + 1 for seconds in date)
    found = receipts(warmed, before)
    assert {it.observed.template for it in found.values()} == {template["machine"]}
    assert {f"mvm-{it.observed.machine}" for it in found.values()} == {*host}
    assert len(machine) == 2
    assert warmed.home.mvm("audit", "verify").returncode == 0


def test_a_plan_that_demands_a_cold_start_boots(warmed: World) -> None:
    receipt, told = started(warmed, "--start", "cold", HELLO, *TRUE)
    assert (receipt.observed.template, "the plan demands a cold start" in told) == (None, True)
    before = receipts(warmed).keys()
    assert warmed.home.mvm("run", HELLO, *TRUE, cwd=warmed.tree).returncode == 0, "a sealed image's plan demands none"
    assert [it.observed.template for it in receipts(warmed, before).values()] == [templates(warmed)[0]["machine"]]
    assert len(templates(warmed)) == 1


def test_a_machine_with_a_share_starts_cold(warmed: World, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    receipt, told = started(warmed, "--share", f"{tmp_path}/shared:/tmp/shared", HELLO, *TRUE)
    assert receipt.observed.template is None
    assert "a machine with shares starts cold" in told
    assert len(templates(warmed)) == 1


def test_another_policy_ends_it(warmed: World) -> None:
    assert started(warmed, HELLO, *TRUE)[0].observed.template is not None
    policy = warmed.home.config / "trust.toml"
    replaced(policy, policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 "))
    receipt, told = started(warmed, HELLO, *TRUE)
    assert receipt.observed.template is None
    assert "the trust policy, or what is revoked, has changed since the template was made" in told
    assert files(warmed) == []
    assert warmed.home.mvm("warm", HELLO, cwd=warmed.tree).returncode == 0
    assert started(warmed, HELLO, *TRUE)[0].observed.template == templates(warmed)[0]["machine"]


def test_a_flipped_byte_is_told_and_the_machine_boots(warmed: World) -> None:
    (path,) = files(warmed)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    receipt, told = started(warmed, HELLO, *TRUE)
    assert receipt.observed.template is None
    assert "is not what was sealed" in told
    assert files(warmed) == []
    assert "no template is kept for it" in started(warmed, HELLO, *TRUE)[1]


def test_one_that_was_removed_is_used_no_more_though_a_launcher_holds_it(warmed: World) -> None:
    assert started(warmed, HELLO, *TRUE)[0].observed.template is not None
    (template,) = templates(warmed)
    removed = warmed.home.mvm("warm", "rm", "hello")
    assert (removed.returncode, removed.stdout.decode().strip()) == (0, template["key"])
    assert (templates(warmed), files(warmed)) == ([], [])
    assert started(warmed, HELLO, *TRUE)[0].observed.template is None
    assert warmed.home.mvm("warm", "rm", "hello").returncode == 2


def test_it_outlives_the_launcher(warmed: World) -> None:
    assert started(warmed, HELLO, *TRUE)[0].observed.template is not None
    stopped = warmed.home.mvm("launcher", "stop")
    assert (stopped.returncode, stopped.stdout != b"") == (0, True)
    assert started(warmed, HELLO, *TRUE)[0].observed.template == templates(warmed)[0]["machine"]
