"""Machines that start from a template, in real jails: no twins, and cold where the template isn't good."""

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from mvmnix.launch.templates import guest_memory
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt
from mvmnix.plan.share import ShareKind
from tests.conftest import World
from tests.hostile.rig import replaced
from tests.patience import PATIENCE, until
from tests.vm.drawing import ANY, LOOK, TRUE, receipts
from tests.vm.machines import HELLO

pytestmark = pytest.mark.vm


def started(world: World, *words: str) -> tuple[Receipt, str]:
    """Run a machine to its end: its receipt, and what was told about it."""
    before = receipts(world).keys()
    done = world.home.mvm("--verbose", "run", *ANY, *words, cwd=world.tree)
    assert done.returncode == 0, done.stderr.decode()
    (receipt,) = receipts(world, before).values()
    return receipt, done.stderr.decode()


def started_warm(world: World, *words: str) -> str:
    """Run a machine that starts from a template; the id of the machine that left it."""
    receipt, told = started(world, *words)
    assert receipt.observed.template is not None, told
    return receipt.observed.template


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


def test_a_machine_with_shares_starts_from_no_template_without_disks(warmed: World, tmp_path: Path) -> None:
    shared = tmp_path.resolve() / "shared"
    shared.mkdir()
    for words, why in {
        f"{shared}:/tmp/shared": "no template is kept for it",
        f"{shared}:/tmp/shared:ro,follow": "a machine with a share that is served starts cold",
    }.items():
        receipt, told = started(warmed, "--share", words, HELLO, *TRUE)
        assert (receipt.observed.template, why in told) == (None, True)
    assert len(templates(warmed)) == 1


#: What a guest finds in its two shares: of each file its size and digest, and the kernel's list of disks.
READ = """
bb=/bin/busybox
cd /opt
for file in $($bb find a b -type f | $bb sort); do
  $bb stat -c '%n %s' $file; $bb sha256sum <$file
done
$bb cat /proc/partitions
"""


def content(place: Path, *sizes: int) -> list[str]:
    """Files of such sizes; what a guest is to find in them."""
    place.mkdir(parents=True)
    found = []
    for number, size in enumerate(sizes):
        data = os.urandom(size)
        (place / str(number)).write_bytes(data)
        found += [f"{place.name}/{number} {size}", f"{hashlib.sha256(data).hexdigest()}  -"]
    return found


def disks(lines: list[str]) -> list[int]:
    """KiB of the machine's disks, by /proc/partitions."""
    return [int(words[2]) for line in lines if (words := line.split())[3:] and words[3].startswith("vd")]


def test_two_of_one_template_read_their_own_shares_whole(warmed: World, tmp_path: Path) -> None:
    place = tmp_path.resolve()
    assert warmed.home.mvm("warm", HELLO, "--shares", "2", cwd=warmed.tree).returncode == 0
    template, before = templates(warmed)[0], receipts(warmed).keys()
    wanted = [
        content(place / "1/a", 0, 1, 300_000) + content(place / "1/b", 5_000_000),
        content(place / "2/a", 2_000_000, 10) + content(place / "2/b", 7),
    ]
    running = [
        warmed.home.start(
            *("run", *ANY, *(f"--share={place}/{number}/{name}:/opt/{name}" for name in "ab"), HELLO),
            *("--", "/bin/busybox", "sh", "-c", READ),
            cwd=warmed.tree,
        )
        for number in (1, 2)
    ]
    said = [process.communicate(timeout=PATIENCE) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    placeholder = guest_memory.placeholder_disk()
    stood_in = os.fstat(placeholder).st_size >> 10
    os.close(placeholder)
    for (out, _), files_of in zip(said, wanted, strict=True):
        lines = out.decode().splitlines()
        assert lines[: len(files_of)] == files_of
        sizes = disks(lines)
        assert (len(sizes), stood_in in sizes) == (3, False)
        assert max(sizes) > sum(int(line.split()[1]) for line in files_of[::2]) >> 11
    found = [it.observed for it in receipts(warmed, before).values()]
    assert {it.template for it in found} == {template["machine"]}
    assert [[share.kind for share in it.shares] for it in found] == [[ShareKind.EROFS] * 2] * 2
    assert len({share.image for it in found for share in it.shares}) == 4


#: What a guest does with its data disk: what it wrote is read from the disk again.
STORE = """
bb=/bin/busybox
cd /data
$bb ls -A
$bb df -k . | $bb tail -n 1
$bb yes kept | $bb head -c 10000000 >file
$bb sync
$bb dd if=file iflag=direct bs=64k 2>/dev/null | $bb md5sum
"""


def test_a_data_disk_has_its_plans_size_and_keeps_what_is_written(warmed: World) -> None:
    assert warmed.home.mvm("warm", HELLO, "--data", cwd=warmed.tree).returncode == 0
    template = templates(warmed)[0]
    kept = subprocess.run(["/bin/sh", "-c", "yes kept | head -c 10000000 | md5sum"], stdout=subprocess.PIPE, check=True)
    for words, size, origin in (
        (ANY, 16, template["machine"]),
        (ANY, 48, template["machine"]),
        (("--start", "cold"), 16, None),
    ):
        before = receipts(warmed).keys()
        command = ("--", "/bin/busybox", "sh", "-c", STORE)
        done = warmed.home.mvm("run", *words, f"--data={size}:/data", HELLO, *command, cwd=warmed.tree)
        assert done.returncode == 0, done.stderr.decode()
        empty, found = done.stdout.decode().splitlines()
        assert size * 0.7 < int(empty.split()[1]) / 1024 <= size
        assert found == kept.stdout.decode().strip()
        (receipt,) = receipts(warmed, before).values()
        assert receipt.observed.template == origin


def test_shares_and_a_data_disk_and_a_template_of_each(warmed: World, tmp_path: Path) -> None:
    place = tmp_path.resolve()
    for shape in (("--shares", "1", "--data"), ("--shares", "1")):
        assert warmed.home.mvm("warm", HELLO, *shape, cwd=warmed.tree).returncode == 0
    only_shares, both, _ = templates(warmed)
    wanted = content(place / "a", 100_000)
    share, data = f"--share={place}/a:/opt/a", "--data=16:/data"
    script = ("--", "/bin/busybox", "sh", "-c", "cd /opt; /bin/busybox sha256sum <a/0; echo x 2>/dev/null >/data/x")
    for words, status, origin in (([share, data], 0, both), ([share], 1, only_shares), ([data], 0, None)):
        before = receipts(warmed).keys()
        done = warmed.home.mvm("run", *ANY, *words, HELLO, *script, cwd=warmed.tree)
        assert done.returncode == status, done.stderr.decode()
        assert done.stdout.decode().split("\n")[0] == (wanted[1] if share in words else "")
        (receipt,) = receipts(warmed, before).values()
        assert receipt.observed.template == (None if origin is None else origin["machine"])


def test_another_policy_ends_it(warmed: World) -> None:
    started_warm(warmed, HELLO, *TRUE)
    policy = warmed.home.config / "trust.toml"
    replaced(policy, policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 "))
    receipt, told = started(warmed, HELLO, *TRUE)
    assert receipt.observed.template is None
    assert "the trust policy, or what is revoked, has changed since the template was made" in told
    assert files(warmed) == []
    assert warmed.home.mvm("warm", HELLO, cwd=warmed.tree).returncode == 0
    assert started_warm(warmed, HELLO, *TRUE) == templates(warmed)[0]["machine"]


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
    started_warm(warmed, HELLO, *TRUE)
    (template,) = templates(warmed)
    removed = warmed.home.mvm("warm", "rm", "hello")
    assert (removed.returncode, removed.stdout.decode().strip()) == (0, template["key"])
    assert (templates(warmed), files(warmed)) == ([], [])
    assert started(warmed, HELLO, *TRUE)[0].observed.template is None
    assert warmed.home.mvm("warm", "rm", "hello").returncode == 2


def test_it_outlives_the_launcher(warmed: World) -> None:
    started_warm(warmed, HELLO, *TRUE)
    stopped = warmed.home.mvm("launcher", "stop")
    assert (stopped.returncode, stopped.stdout != b"") == (0, True)
    assert started_warm(warmed, HELLO, *TRUE) == templates(warmed)[0]["machine"]


def configured(world: World, *, unasked: bool) -> None:
    text = f"version = 1\n[templates]\nunasked = {str(unasked).lower()}\n"
    replaced(world.home.config / "config.toml", text.encode())


def of_shape(world: World, memory: int) -> list[dict[str, object]]:
    return [each for each in templates(world) if each["memoryMiB"] == memory]


def refusals(world: World) -> int:
    """How many the log has: a copied world's has those of others' tests."""
    lines = world.home.mvm("audit", "tail", "-n", "10000").stdout.splitlines()
    return [json.loads(line)["kind"] for line in lines].count("refusal")


def test_after_the_second_cold_start_a_template_is_made_unasked(copied: World) -> None:
    """A start like any other, that no caller waits for; the third machine starts from it."""
    configured(copied, unasked=True)
    before = refusals(copied)
    said = copied.home.mvm("doctor", "--json").stdout
    (row,) = (each for each in json.loads(said)["result"] if each["what"] == "warm starts")
    assert row["said"].endswith("one is made unasked once an image's machines have booted twice for want of it")
    words = ("--memory", "300m", HELLO, *TRUE)
    assert started(copied, *words)[0].observed.template is None
    assert of_shape(copied, 300) == []
    assert started(copied, *words)[0].observed.template is None
    until(lambda: files(copied) and of_shape(copied, 300), lambda: templates(copied), seconds=PATIENCE)
    (template,) = of_shape(copied, 300)
    assert started_warm(copied, *words) == template["machine"]
    log = [json.loads(line) for line in copied.home.mvm("audit", "tail", "-n", "100").stdout.splitlines()]
    assert [record["kind"] for record in log if record.get("machine") == template["machine"]] == ["start", "end"]
    assert refusals(copied) == before
    assert copied.home.mvm("audit", "verify").returncode == 0
    assert not [*(copied.home.state / "templates").glob("*.cold")]


def test_none_is_made_unasked_by_a_private_launcher_or_where_the_configuration_says_so(copied: World) -> None:
    """What counts a machine does so when its caller was told, and has done it by the end of the next one."""
    words = ("--memory", "300m", HELLO, *TRUE)
    configured(copied, unasked=True)
    for _ in range(2):
        assert started(copied, "--private-launcher", *words)[0].observed.template is None
    configured(copied, unasked=False)
    for _ in range(2):
        assert started(copied, *words)[0].observed.template is None
    assert not [*(copied.home.state / "templates").glob("*.cold")]
    assert of_shape(copied, 300) == []
