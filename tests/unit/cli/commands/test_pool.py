"""`mvm pool`: machines wait by a plan of their own, are claimed by starts of their kind, listed, and ended."""

import json
import os
import re

import pytest

from mvmnix.api.context import Context
from mvmnix.api.images import list_images
from mvmnix.api.launch import StartOptions, create_machine
from mvmnix.api.plans import sign_plan
from mvmnix.api.templates import MachineShape, draft_untold_plan
from mvmnix.errors import UsageError
from mvmnix.launch.control.drivers import Steps, Work, run
from mvmnix.launch.control.start_messages import Mode
from mvmnix.machines.ending import EndReason
from mvmnix.plan.plan import Use
from mvmnix.system.roots import Roots
from tests.patience import until
from tests.unit.cli.machines import kinds
from tests.unit.cli.station import Station
from tests.unit.launcher.pooling import launcher, pooled, states

__all__ = ["launcher", "pooled"]


def listed(station: Station) -> list[dict[str, object]]:
    return list(station.mvm("pool", "ls", "--json").answer("pools"))


def log(station: Station) -> list[dict[str, object]]:
    return [json.loads(line) for line in station.mvm("audit", "tail", "-n", "1000").out.splitlines()]


def ran(station: Station, reference: str, *words: str) -> bool:
    """Run a machine to its end; whether it claimed one that waited."""
    said = station.mvm("run", *words, reference, "--", "true")
    assert said.code == 0, said.err
    return "waited" in [record["digests"] for record in log(station) if record["kind"] == "start"][-1]  # type: ignore[operator]


def is_full(station: Station, count: int) -> bool:
    (pool,) = listed(station)
    return pool["waiting"] == count


@pytest.mark.usefixtures("launcher")
def test_machines_wait_are_claimed_and_end(pooled: Station) -> None:
    reference = pooled.flake()
    made = pooled.mvm("pool", "set", reference, "-n", "2")
    assert (made.code, made.out) == (0, "hello\n"), made.err
    (pool,) = listed(pooled)
    assert (pool["image"], pool["count"], pool["waiting"], pool["why"]) == ("hello", 2, 2, "")
    assert "hello" in pooled.mvm("pool", "ls").out
    assert states(pooled).count("waiting") == 2
    assert ran(pooled, reference)
    until(lambda: is_full(pooled, 2))
    claimed = [
        record for record in log(pooled) if record["kind"] == "end" and record.get("reasons") == [EndReason.CLAIMED]
    ]
    assert len(claimed) == 1
    removed = pooled.mvm("pool", "rm", "hello", "hello")
    assert (removed.code, removed.out) == (0, "hello\n")
    until(lambda: "waiting" not in states(pooled))
    assert listed(pooled) == []
    assert not ran(pooled, reference)
    assert pooled.mvm("audit", "verify").code == 0


@pytest.mark.usefixtures("launcher")
def test_a_start_of_another_shape_claims_none(pooled: Station) -> None:
    reference = pooled.flake()
    assert pooled.mvm("pool", "set", reference, "-n", "1").code == 0
    assert not ran(pooled, reference, "--vcpus", "2")
    assert not ran(pooled, reference, "--start", "cold")
    assert is_full(pooled, 1)


@pytest.mark.usefixtures("launcher")
def test_each_is_admitted_and_logged_by_itself(pooled: Station) -> None:
    assert pooled.mvm("pool", "set", pooled.flake(), "-n", "2").code == 0
    found = kinds(pooled)
    assert found.count("start") == 3, "one left the template"
    assert found.count("admission") == 4, "the pool's plan was verified when it was set, too"


@pytest.mark.usefixtures("launcher")
def test_another_policy_ends_those_that_wait(pooled: Station) -> None:
    assert pooled.mvm("pool", "set", pooled.flake(), "-n", "1").code == 0
    policy = pooled.config / "trust.toml"
    policy.write_bytes(policy.read_bytes().replace(b"serial = 1", b"serial = 2"))
    until(lambda: "waiting" not in states(pooled))
    until(lambda: bool(listed(pooled)[0]["why"]))
    (pool,) = listed(pooled)
    assert pool["why"] == "the trust policy has changed since the pool was set [policy-mismatch]"
    assert str(pool["next"]).startswith("set it anew: mvm pool set image:hello -n 1 -c 1 -m ")
    assert re.search("(?m)^hello .*policy.*; set it anew: mvm pool set image:hello", pooled.mvm("pool", "ls").out)
    assert pooled.mvm(*str(pool["next"]).split(" mvm ")[1].split()).code == 0
    assert is_full(pooled, 1)
    assert listed(pooled)[0]["next"] == ""


@pytest.mark.usefixtures("launcher")
def test_a_pool_whose_machines_cannot_wait_is_told(pooled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pooled.flake()
    monkeypatch.setattr("mvmnix.api.pools.save_machine", lambda *_: iter(()))
    said = pooled.mvm("pool", "set", reference, "-n", "1")
    assert (said.code, "no machine of the pool can wait: no template is kept for it" in said.err) == (125, True)
    assert said.err.count("can wait") == 1
    assert listed(pooled) == []


@pytest.mark.usefixtures("launcher")
def test_a_pool_that_fails_ends_no_other_pool_of_its_image(pooled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pooled.flake()
    assert pooled.mvm("pool", "set", reference, "-n", "1").code == 0
    monkeypatch.setattr("mvmnix.api.pools.save_machine", lambda *_: iter(()))
    assert pooled.mvm("pool", "set", reference, "-n", "1", "-c", "2").code == 125
    (pool,) = listed(pooled)
    assert (pool["vcpus"], pool["waiting"]) == (1, 1)


@pytest.mark.usefixtures("launcher")
def test_one_that_is_interrupted_is_filled_all_the_same(pooled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pooled.flake()

    def interrupt() -> None:
        raise KeyboardInterrupt

    def wait(*_: object) -> Steps[None]:
        yield Work(interrupt)

    monkeypatch.setattr("mvmnix.api.pools._wait", wait)
    said = pooled.mvm("pool", "set", reference, "-n", "2")
    assert (said.code, said.out) == (130, "")
    assert "the launcher goes on filling the pool: mvm pool ls shows how far it is, mvm pool rm hello" in said.err
    assert "filling the pool: 2 machines" in said.err
    until(lambda: is_full(pooled, 2))
    assert pooled.mvm("pool", "rm", "hello").code == 0


@pytest.mark.usefixtures("launcher")
@pytest.mark.parametrize("is_asked_first", [True, False], ids=["caller", "launcher"])
def test_more_than_may_wait_are_refused_before_a_template_is_made(
    pooled: Station, monkeypatch: pytest.MonkeyPatch, is_asked_first: bool
) -> None:
    """The launcher has the same limits, for callers that don't look."""
    reference = pooled.flake()
    assert pooled.mvm("pool", "set", reference, "-n", "1").code == 0
    if not is_asked_first:
        monkeypatch.setattr("mvmnix.api.pools.check_room", lambda *_: None)
    before = kinds(pooled)
    said = pooled.mvm("pool", "set", reference, "-n", "32", "-c", "2")
    assert (said.code, "32 machines may wait in all pools together, and other pools have 1" in said.err) == (2, True)
    large = str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20) // 4 + 1)
    said = pooled.mvm("pool", "set", reference, "-n", "2", "-m", f"{large}M")
    assert (said.code, "half of this host's memory" in said.err) == (2, True)
    assert (kinds(pooled) == before) is is_asked_first


@pytest.mark.usefixtures("launcher")
def test_what_can_not_be(pooled: Station) -> None:
    reference = pooled.flake()
    assert pooled.mvm("pool", "set", reference).code == 2
    assert pooled.mvm("pool", "set", reference, "-n", "0").code == 2
    assert pooled.mvm("pool", "set", reference, "-n", "33").code == 2
    said = pooled.mvm("pool", "rm", "hello")
    assert (said.code, "there is no pool of 'hello'" in said.err) == (2, True)
    assert "all pools together have at most 32" in " ".join(pooled.mvm("pool", "set", "--help").out.split())


@pytest.mark.usefixtures("launcher")
def test_what_is_asked_of_a_machine_that_waits_is_answered_with_its_pool(pooled: Station) -> None:
    assert pooled.mvm("pool", "set", pooled.flake(), "-n", "2").code == 0
    machine = next(each["id"] for each in pooled.mvm("ps", "--json").answer("machines") if each["state"] == "waiting")
    for words in (
        ("exec", machine, "--", "true"),
        ("cp", f"{machine}:/etc/passwd", "here"),
        ("pause", machine),
        ("rm", machine),
    ):
        said = pooled.mvm(*words)
        assert (said.code, f"the machine {machine!r} waits in a pool" in said.err) == (2, True), said.err
        assert "mvm pool rm hello ends those that wait there; mvm run takes one of them" in said.err
    said = pooled.mvm("image", "rm", "hello")
    assert (said.code, "it is needed by the pool of hello (mvm pool rm hello)" in said.err) == (2, True), said.err
    assert re.search("(?m)^hello .*1 pool", pooled.mvm("image", "ls").out)
    for ending in (["stop"], ["kill"], ["rm", "--force"]):
        until(lambda: is_full(pooled, 2))
        machine = next(it["id"] for it in pooled.mvm("ps", "--json").answer("machines") if it["state"] == "waiting")
        said = pooled.mvm(*ending, machine)
        assert (said.code, said.out) == (0, f"{machine}\n"), said.err
        assert "has another take its place until mvm pool rm hello" in said.err


@pytest.mark.usefixtures("launcher")
def test_a_pool_is_removed_by_what_it_was_set_by(pooled: Station) -> None:
    reference = pooled.flake()
    for text in (reference, "image:hello", "hello"):
        assert pooled.mvm("pool", "set", reference, "-n", "1").code == 0
        removed = pooled.mvm("pool", "rm", text)
        assert (removed.code, removed.out, listed(pooled)) == (0, "hello\n", []), removed.err
        again = pooled.mvm("pool", "rm", text)
        assert (again.code, f"there is no pool of {text!r}" in again.err) == (2, True)
    said = pooled.mvm("pool", "set", "hello", "-n", "1")
    assert (said.code, "did you mean image:hello? " in said.err) == (2, True)


def test_a_private_launcher_keeps_none(pooled: Station) -> None:
    """That of `forked_launcher` is one."""
    said = pooled.mvm("pool", "ls")
    assert (said.code, "a private launcher keeps no machine waiting" in said.err) == (2, True)


def test_the_plan_of_a_pool_or_a_template_registers_no_machine(pooled: Station) -> None:
    pooled.mvm("run", pooled.flake(), "--", "true")
    for use in ("pool", "template"):
        with Context(Roots.from_environment(os.environ)) as context:
            _, seen = list_images(context)
            image = next(each.finished for each in seen if each.finished and each.finished.image.name == "hello")
            bundle = sign_plan(context, draft_untold_plan(context, image, MachineShape(), Use(use)))
            with pytest.raises(UsageError, match=f"the plan is for a {use}, and no machine is kept of it"):
                run(create_machine(context, bundle, StartOptions(mode=Mode.CREATED)))
    assert "created" not in states(pooled)
