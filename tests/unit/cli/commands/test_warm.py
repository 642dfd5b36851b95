"""`mvm warm`: a template is made by a plan of its own, listed, used and removed; what is no command is an image."""

import json
import re
from pathlib import Path

import pytest

from mvmnix.machines.ending import EndReason
from tests.unit.cli.machines import kinds
from tests.unit.cli.plans import log
from tests.unit.cli.station import Station

REFUSED = 126


@pytest.fixture
def warm(settled: Station) -> Station:
    """A user whose hypervisor saves guests, and whose host's counter is always measured the same."""
    settled.saves_guests()
    return settled


def files(station: Station) -> list[Path]:
    return [*(station.state / "templates").glob("*.template")]


def listed(station: Station) -> list[dict[str, object]]:
    return list(station.mvm("warm", "ls", "--json").answer("templates"))


def started(station: Station, reference: str) -> object:
    """The digest of the template from which a machine of it starts, by the log; None for one that boots."""
    said = station.mvm("run", reference, "--", "true")
    assert said.code == 0, said.err
    tail = [json.loads(line) for line in station.mvm("audit", "tail").out.splitlines()]
    return [record["digests"].get("template") for record in tail if record["kind"] == "start"][-1]


def test_a_template_is_made_listed_used_and_removed(warm: Station) -> None:
    reference = warm.flake()
    made = warm.mvm("warm", reference)
    assert made.code == 0, made.err
    assert kinds(warm)[-3:] == ["admission", "start", "end"]
    (template,) = listed(warm)
    assert (template["image"], template["machine"]) == ("hello", made.out.strip())
    assert warm.mvm("inspect", made.out.strip()).answer("machine")["ended"] == EndReason.SAVED
    (path,) = files(warm)
    assert f"sha256:{path.stem}" == template["key"] == f"sha256:{started(warm, reference)}"
    shown = warm.mvm("warm", "ls").out
    assert all(word in shown for word in ("hello", path.stem[:12], made.out.strip()))
    removed = warm.mvm("warm", "rm", "hello")
    assert (removed.code, removed.out.strip()) == (0, template["key"])
    assert (listed(warm), files(warm), started(warm, reference)) == ([], [], None)


def test_afterwards_show_says_how_a_machine_started(warm: Station) -> None:
    reference = warm.flake()
    assert warm.mvm("run", "--name", "web", reference, "--", "true").code == 0
    assert ", start: cold " in warm.mvm("show", "web").out
    template = warm.mvm("warm", reference).out.strip()
    assert warm.mvm("run", "--name", "second", reference, "--", "true").code == 0
    assert f", start: warm (template of the machine {template}) " in warm.mvm("show", "second").out


def test_make_is_the_command_that_is_left_out(warm: Station) -> None:
    reference = warm.flake()
    assert warm.mvm("warm", "make", reference).code == 0
    assert warm.mvm("warm", reference).code == 0
    assert warm.mvm("warm", "image:hello").code == 0
    assert len(listed(warm)) == 1, "each takes the place of the one before"
    for words in (("--help",), ("-h",), ("rm", "--help"), ("make", "--help")):
        said = warm.mvm("warm", *words)
        assert (said.code, said.out.startswith("Usage: mvm warm")) == (0, True)
    assert warm.mvm("warm", "nosuch-image:").code == 2
    assert warm.mvm("warm", "--help").out.startswith("Usage: mvm warm [OPTIONS] IMAGE | COMMAND [ARGS]...")
    assert "mvm warm IMAGE` is `mvm warm make IMAGE" in warm.mvm("warm", "--help").out


def test_each_shape_has_its_own(warm: Station) -> None:
    reference = warm.flake()
    assert warm.mvm("warm", reference, "--vcpus", "2").code == 0
    assert started(warm, reference) is None
    assert warm.mvm("warm", reference, "--memory", "300M").code == 0
    assert {(each["vcpus"], each["memoryMiB"]) for each in listed(warm)} >= {(listed(warm)[0]["vcpus"], 300)}
    assert len(listed(warm)) == 2


def test_one_for_machines_with_disks_is_another_one(warm: Station) -> None:
    reference = warm.flake()
    for words in ((), ("--shares", "2"), ("--data",), ("--shares", "2", "--data")):
        assert warm.mvm("warm", reference, *words).code == 0
    assert len({each["key"] for each in listed(warm)}) == 4
    assert {(each["shares"], each["data"]) for each in listed(warm)} == {(0, False), (2, False), (0, True), (2, True)}
    assert "2 shares, data disk" in warm.mvm("warm", "ls").out
    assert started(warm, reference) is not None
    assert warm.mvm("run", reference, "--data", "16:/data", "--", "true").code == 0
    tail = [json.loads(line) for line in warm.mvm("audit", "tail").out.splitlines()]
    assert "template" in [record["digests"] for record in tail if record["kind"] == "start"][-1]
    assert warm.mvm("warm", reference, "--shares", "9").code == 2


@pytest.mark.parametrize("disk", [(), ("--data", "16:/data")], ids=["none", "data"])
def test_a_start_that_finds_none_says_which_command_makes_one(warm: Station, disk: tuple[str, ...]) -> None:
    reference = warm.flake()
    words = ("--verbose", "run", "-c", "2", "-m", "300M", *disk, reference, "--", "true")
    said = warm.mvm(*words).err
    (command,) = re.findall("a cold start: no template is kept for it; made by mvm (.*)", said)
    assert command == f"warm image:hello --vcpus 2 --memory 300M{' --data' if disk else ''}"
    assert warm.mvm(*command.split()).code == 0
    assert "a warm start, from what the machine " in warm.mvm(*words).err
    policy = warm.config / "trust.toml"
    policy.write_bytes(policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 "))
    assert f"has changed since the template was made; made by mvm {command}\n" in warm.mvm(*words).err


def test_one_is_removed_by_the_beginning_of_its_key(warm: Station) -> None:
    reference = warm.flake()
    for count in ("1", "2"):
        assert warm.mvm("warm", reference, "-c", count).code == 0
    first, second = (str(each["key"]).removeprefix("sha256:") for each in listed(warm))
    few = warm.mvm("warm", "rm", first[:7])
    assert (few.code, "of a key, 8 digits are needed" in few.err) == (2, True)
    assert "at least 8 digits" in " ".join(warm.mvm("warm", "rm", "--help").out.split())
    assert warm.mvm("warm", "rm", first[:8]).code == 0
    assert [path.stem for path in files(warm)] == [second]
    shown = warm.mvm("warm", "ls").out.splitlines()[1].split()[0]
    assert (warm.mvm("warm", "rm", shown).code, files(warm)) == (0, [])


def test_those_of_an_image_are_removed_by_what_made_them(warm: Station) -> None:
    reference = warm.flake()
    for text in (reference, "image:hello"):
        assert warm.mvm("warm", reference).code == 0
        assert (warm.mvm("warm", "rm", text).code, files(warm)) == (0, [])
    for words in (("hello",), ("make", "hello")):
        said = warm.mvm("warm", *words)
        assert (said.code, "did you mean image:hello? " in said.err) == (2, True)
    assert "did you mean" not in warm.mvm("warm", "nosuch").err


def test_one_that_is_not_there_is_told_and_nothing_is_removed(warm: Station) -> None:
    assert warm.mvm("warm", warm.flake()).code == 0
    said = warm.mvm("warm", "rm", "hello", "nosuch")
    assert (said.code, "there is no template 'nosuch'" in said.err) == (2, True)
    assert "mvm warm ls" in said.err
    assert len(files(warm)) == 1


def test_where_the_hypervisor_saves_none(settled: Station) -> None:
    said = settled.mvm("warm", settled.flake())
    assert (said.code, "the hypervisor can't save guests" in said.err) == (2, True)
    assert listed(settled) == []


def test_where_the_policy_lets_no_machine_start_warm_none_is_made_and_machines_boot(warm: Station) -> None:
    reference = warm.flake()
    assert warm.mvm("warm", reference).code == 0
    policy = warm.config / "trust.toml"
    text = policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 ")
    policy.write_bytes(text.replace(b'isolation = "microvm"', b'isolation = "microvm"\nwarm-starts = false'))
    before = kinds(warm)
    said = warm.mvm("warm", reference)
    assert (said.code, "refused [template-forbidden]" in said.err) == (REFUSED, True)
    assert log(warm)[-1]["reasons"] == ["template-forbidden"]
    assert kinds(warm)[len(before) :] == ["refusal"]
    assert started(warm, reference) is None


def test_another_policy_removes_them(warm: Station) -> None:
    reference = warm.flake()
    assert warm.mvm("warm", reference).code == 0
    policy = warm.config / "trust.toml"
    policy.write_bytes(policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 "))
    assert (listed(warm), files(warm)) == ([], [])
    assert started(warm, reference) is None
