"""Templates that are made unasked: when one is due, what is in the way, and that a failure isn't tried again."""

import os
from collections.abc import Callable, Mapping, Sequence

import pytest

from mvmnix.api import unasked_templates
from mvmnix.api.admission import open_templates
from mvmnix.api.context import Context
from mvmnix.api.images import list_images
from mvmnix.api.templates import MachineShape, draft_untold_plan
from mvmnix.api.unasked_templates import find_obstacle, follow_cold_start, make_due_template
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.images.store import VerifiedImage
from mvmnix.launch.templates.cold_starts import ColdStarts
from mvmnix.plan.plan import Plan, Use
from mvmnix.system import control_groups, process
from mvmnix.system.procfs import boot_id
from tests.unit.cli.machines import kinds
from tests.unit.cli.policies import policy, revoke
from tests.unit.cli.station import Station

KEY = Digest.of(b"a key")
SHAPE = MachineShape(2, 300, network=False)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has no limits, wherever the tests run."""
    monkeypatch.setattr(control_groups, "is_within_limits", lambda: False)


@pytest.fixture
def warm(settled: Station) -> Station:
    """A user whose hypervisor saves guests, and whose host's counter is always measured the same."""
    settled.saves_guests()
    settled.flake()
    return settled


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The programs that were started, as module, function and words; none is."""
    found = list[tuple[str, ...]]()

    def spawn(argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        assert "TOKEN" not in env
        assert env["HOME"] == os.environ["HOME"]
        found.append(tuple(argv[argv.index(unasked_templates.__name__) :]))

    monkeypatch.setattr(process, "spawn", spawn)
    monkeypatch.setenv("TOKEN", "of the caller's")
    return found


def counts(context: Context) -> ColdStarts:
    return open_templates(context).cold_starts(boot_id())


def image_of(context: Context) -> VerifiedImage:
    """The image of the flake, which is kept."""
    _, seen = list_images(context)
    (found,) = [each.finished for each in seen if each.finished is not None and each.finished.image.name == "hello"]
    return found


def plan_of(station: Station) -> Plan:
    """A plan of the image's, of another shape."""
    with station.rooms() as context:
        return draft_untold_plan(context, image_of(context), SHAPE, Use.TEMPLATE)


def key_of(station: Station) -> Digest:
    """The key of machines of that shape: that of a template which is made by hand, and removed."""
    assert station.mvm("warm", "image:hello", "-c", "2", "-m", "300").code == 0
    with station.rooms() as context:
        (kept,) = open_templates(context).list()
        open_templates(context).remove(kept.record.key)
        return kept.record.key


def configure(station: Station, text: str) -> None:
    (station.config / "config.toml").write_text(f"version = 1\n{text}")


def launch_table(text: str) -> Callable[[Station], object]:
    return lambda it: policy(it, lambda old: old.replace('isolation = "microvm"', text))


def encrypted(station: Station) -> None:
    (station.config / "keys/planner.pem").unlink()
    station.monkeypatch.setenv("WORD", "a long password")
    assert station.mvm("key", "create", "planner", "--password", "env:WORD").code == 0
    configure(station, '[keys]\npassword = "env:WORD"\n')


def another_key(station: Station) -> None:
    (station.config / "keys/planner.pem").unlink()
    assert station.mvm("key", "create", "planner").code == 0


def revoked(station: Station) -> None:
    with station.rooms() as context:
        (planner,) = [each for each in context.policy.signers if "planner" in each.roles]
    revoke(station.config, planner.fingerprint.hex, table="keys")


OBSTACLES: dict[str, tuple[str, Callable[[Station], object]]] = {
    "configuration": ("config.toml says so", lambda it: configure(it, "[templates]\nunasked = false\n")),
    "warm starts": (
        "the trust policy lets no machine start from a template",
        launch_table('isolation = "microvm"\nwarm-starts = false'),
    ),
    "hardware": ("the trust policy requires hardware virtualization", launch_table('isolation = "hardware"')),
    "threshold": (
        "the trust policy asks for more than one signer of a plan",
        lambda it: policy(it, lambda old: old.replace("[launch]", "[thresholds]\nplans = 2\n[launch]")),
    ),
    "keyless": ("plans are signed keyless here", lambda it: configure(it, '[signing]\nkeyless = ["planner"]\n')),
    "limits": (
        "processes here are in a control group with limits",
        lambda it: it.monkeypatch.setattr(control_groups, "is_within_limits", lambda: True),
    ),
    "no planner": ("there is no planner key here", lambda it: (it.config / "keys/planner.pem").unlink()),
    "no host key": ("there is no host key here", lambda it: (it.config / "keys/host.pem").unlink()),
    "password": ("the planner key doesn't open unasked: it is encrypted", encrypted),
    "another key": ("the trust policy admits no plan that the planner key here signs", another_key),
    "revoked": ("the trust policy admits no plan that the planner key here signs", revoked),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_what_is_in_the_way(warm: Station, case: str, programs: list[tuple[str, ...]]) -> None:
    """Nothing is counted then, and no program is started."""
    plan = plan_of(warm)
    with warm.rooms() as context:
        assert find_obstacle(context) == ""
    why, change = OBSTACLES[case]
    change(warm)
    with warm.rooms() as context:
        assert find_obstacle(context).startswith(why)
    for _ in range(3):
        follow_cold_start(plan, KEY)
    assert programs == []
    assert not list((warm.state / "templates").glob("*.cold"))


def test_a_password_in_a_file_is_no_question(warm: Station) -> None:
    encrypted(warm)
    (warm.path / "word").write_text("a long password\n")
    (warm.path / "word").chmod(0o600)
    with warm.rooms() as context:
        assert "doesn't open unasked" in find_obstacle(context)
    configure(warm, f'[keys]\npassword = "file:{warm.path}/word"\n')
    with warm.rooms() as context:
        assert find_obstacle(context) == "the trust policy admits no plan that the planner key here signs"


def test_at_the_second_cold_start_a_program_is_started(warm: Station, programs: list[tuple[str, ...]]) -> None:
    plan = plan_of(warm)
    assert plan.manifest is not None
    follow_cold_start(plan, KEY)
    assert programs == []
    follow_cold_start(plan, KEY)
    assert programs == [(unasked_templates.__name__, "main", KEY.hex, plan.manifest.hex, "2", "300", "0", "0", "0")]
    with warm.rooms() as context:
        counts(context).give_up(KEY, "it failed")
    follow_cold_start(plan, KEY)
    assert len(programs) == 1


def test_where_nothing_can_be_read_or_started_nothing_is_raised(
    warm: Station, programs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(warm)

    def fail(*_: object, **__: object) -> None:
        raise MvmnixError("no process can be started", hint="")

    follow_cold_start(plan, KEY)
    monkeypatch.setattr(process, "spawn", fail)
    follow_cold_start(plan, KEY)
    (warm.config / "trust.toml").write_text("garbage")
    follow_cold_start(plan, KEY)
    assert programs == []


def make(station: Station, key: Digest, shape: MachineShape = SHAPE) -> None:
    with station.rooms() as context:
        make_due_template(context, key, image_of(context).image.manifest.digest, shape)


def obstacles(station: Station) -> tuple[str, ...]:
    with station.rooms() as context:
        return counts(context).obstacles


def test_it_is_made_by_a_start_like_any_other(warm: Station) -> None:
    key, before = key_of(warm), kinds(warm)
    with warm.rooms() as context:
        for _ in range(2):
            counts(context).note(key)
    make(warm, key)
    assert kinds(warm)[len(before) :] == ["admission", "start", "end"]
    with warm.rooms() as context:
        (kept,) = open_templates(context).list()
        assert (kept.record.key, kept.record.vcpus, kept.record.memory_mib) == (key, 2, 300)
    assert not list((warm.state / "templates").glob("*.cold"))
    make(warm, key)
    assert len(kinds(warm)) == len(before) + 3, "there is one"


def test_only_one_is_made_at_a_time(warm: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kinds(warm)
    with warm.rooms() as context:
        monkeypatch.setattr("mvmnix.launch.templates.store.Templates.try_making", lambda _: None)
        make_due_template(context, KEY, Digest.of(b"no image"), SHAPE)
    assert (kinds(warm), obstacles(warm)) == (before, ())


def test_a_failure_is_kept_and_shown(warm: Station) -> None:
    with warm.rooms() as context:
        make_due_template(context, KEY, Digest.of(b"no image"), SHAPE)
    (why,) = obstacles(warm)
    assert "no kept image has" in why
    (row,) = [each for each in warm.mvm("doctor", "--json").answer("doctor") if each["what"] == "warm starts"]
    assert (row["health"], "1 template not tried again" in row["said"], why in row["said"]) == ("note", True, True)


def test_while_one_is_made_it_has_not_failed(warm: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()

    def look(*_: object) -> None:
        (row,) = [each for each in warm.mvm("doctor", "--json").answer("doctor") if each["what"] == "warm starts"]
        said.append(f"{row['health']}: {row['said']}")
        raise MvmnixError("no guest was saved", hint="")

    monkeypatch.setattr(unasked_templates, "make_template", look)
    make(warm, KEY)
    (shown,) = said
    assert shown.startswith("good: no template; one is being made unasked; one is made unasked once")
    assert "not tried again" not in shown
    assert obstacles(warm) == ("no guest was saved",)


def test_one_that_was_killed_counts_as_failed(warm: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unasked_templates, "make_template", killed)
    with pytest.raises(KeyboardInterrupt):
        make(warm, KEY)
    assert obstacles(warm) == ("what made it ended before it was done",)


def test_one_that_no_machine_of_the_key_can_use_is_not_made_again(warm: Station) -> None:
    make(warm, KEY)
    assert obstacles(warm) == ("machines have another key than the template that is made for them",)


def test_what_is_in_the_way_by_now(warm: Station) -> None:
    configure(warm, "[templates]\nunasked = false\n")
    before = kinds(warm)
    make(warm, KEY)
    assert (kinds(warm), obstacles(warm)) == (before, ())


def test_doctor_says_how_they_stand(warm: Station) -> None:
    def row() -> tuple[str, str]:
        (found,) = [each for each in warm.mvm("doctor", "--json").answer("doctor") if each["what"] == "warm starts"]
        return found["health"], found["said"]

    assert row() == (
        "good",
        "no template; one is made unasked once an image's machines have booted twice for want of it",
    )
    assert warm.mvm("warm", "image:hello").code == 0
    assert row()[1].startswith("1 template of 0 MiB; one is made unasked")
    configure(warm, "[templates]\nunasked = false\n")
    health, said = row()
    assert (health, said.partition("; ")[2]) == (
        "note",
        "none is made unasked: config.toml says so ([templates] unasked = false)",
    )
