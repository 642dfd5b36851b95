"""`mvm show`: images, plans and machines; each broken link where it broke; exit codes 0, 1, 2; nothing is changed."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import Record, RecordKind
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats.strict import canonical, show_time
from mvmnix.keys import PrivateKey, Role
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineState, MachineStatus, new_id
from mvmnix.provenance.bundle import envelope
from tests.unit.cli.machines import edited
from tests.unit.cli.plans import named, signed
from tests.unit.cli.shown import SBOM, broken, directory, log_changed, machine, nodes, snapshot
from tests.unit.cli.station import Station

__all__ = ["machine"]


@pytest.fixture
def built(settled: Station) -> str:
    """A flake whose image was built, with all that a build can have; its image's digest."""
    settled.flake(sbom=SBOM, parts=True)
    return str(named(settled, "hello")["manifest"])


def plan(station: Station, validity: dict[str, str] | None = None, *, key: PrivateKey | None = None) -> Path:
    """A signed plan for the flake hello."""
    value = json.loads(station.mvm("plan", "create", f"path:{station.path}/flakes/hello", "--", "true").out)
    value["predicate"]["validity"] |= validity or {}
    unsigned, bundle = station.path / "plan.json", station.path / "plan.sigstore.json"
    unsigned.write_text(json.dumps(value))
    if key is None:
        assert station.mvm("plan", "sign", unsigned, "--out", bundle).code == 0
    else:
        bundle.write_bytes(envelope.sign(canonical(value), key).to_bytes())
    return bundle


# -- all is well


def test_an_image(settled: Station, built: str) -> None:
    said = settled.mvm("show", built, "--json")
    assert (said.code, broken(said)) == (0, {}), said.err
    result, found = said.answer("evidence"), nodes(said)
    assert (result["subject"], result["verdict"]) == ("image", "verified")
    assert result["counts"] == {"verified": len(found), "not verified": 0, "refused": 0}
    for text in (built.removeprefix("sha256:"), built.removeprefix("sha256:")[:8], built[:20]):
        assert nodes(settled.mvm("show", text, "--json")) == found
    assert found["image"]["digest"] == built
    assert found["provenance"]["digest"] == named(settled, "hello")["provenance"]
    assert found["sbom"]["digest"] == str(Digest.of(SBOM))
    assert found["builder"]["digest"] == named(settled, "builder")["manifest"]
    assert found["builder/provenance"]["digest"] == named(settled, "builder")["provenance"]
    assert {node["signer"] for node in found.values()} == {"builder", None}
    assert {"from": "derivation", "meaning": "built from", "to": "tree"} in result["edges"]


@pytest.fixture
def exported(settled: Station, built: str) -> Path:
    out = settled.path / "out"
    said = settled.mvm("build", f"path:{settled.path}/flakes/hello", "--out", out)
    assert said.code == 0, said.err
    return out


def test_an_exported_image(settled: Station, built: str, exported: Path) -> None:
    kept = nodes(settled.mvm("show", built, "--json"))
    said = settled.mvm("show", exported, "--json")
    assert (said.code, nodes(said)) == (0, kept)
    for path in (settled.state / "builds").iterdir():
        path.unlink()
    bundle = exported / "provenance.sigstore.json"
    bundle.write_text(json.dumps(json.loads(bundle.read_bytes()), indent=2))
    said = settled.mvm("show", exported, "--json")
    assert (said.code, set(nodes(said))) == (0, {key for key in kept if not key.startswith("builder/")})


@pytest.mark.parametrize(
    ("name", "where", "code"),
    [
        ("kernel", "file/kernel", Code.ARTIFACT_MISMATCH),
        ("rootfs", "file/rootfs", Code.ARTIFACT_MISMATCH),
        ("sbom.cdx.json", "sbom", Code.SBOM_MISMATCH),
        ("provenance.sigstore.json", "provenance", None),
        ("manifest.json", "image", None),
    ],
)
def test_a_flipped_byte_of_an_exported_image(
    settled: Station, exported: Path, name: str, where: str, code: Code | None
) -> None:
    flip(exported / name)
    said = settled.mvm("show", exported, "--json")
    assert said.code == 1
    assert broken(said)[where] == (f"refused ['{code}']" if code else broken(said)[where])
    assert {"image", "provenance", "policy"} <= nodes(said).keys()


def test_the_first_line_of_an_image_says_what_its_files_are_worth(settled: Station, exported: Path) -> None:
    (exported / "rootfs").chmod(0o600)
    with (exported / "rootfs").open("ab") as rootfs:
        rootfs.write(b"x")
    said = settled.mvm("show", exported)
    assert (said.code, said.out.startswith("✗ image hello  refused [artifact-mismatch")) == (1, True), said.out


def test_what_an_exported_image_lacks(settled: Station, exported: Path) -> None:
    (exported / "kernel").unlink()
    said = settled.mvm("show", exported)
    assert (said.code, "kernel" in said.err) == (2, True)
    (exported / "manifest.json").unlink()
    assert settled.mvm("show", exported).code == 2


def test_rebuilds_beside_an_exported_image(settled: Station, exported: Path) -> None:
    bundle = (exported / "provenance.sigstore.json").read_bytes()
    (exported / "rebuilds.sigstore.jsonl").write_bytes(bundle + b"\nno bundle")
    said = settled.mvm("show", exported, "--json")
    rebuilds = [key for key in broken(said) if key.startswith("rebuild/")]
    assert (said.code, len(rebuilds)) == (1, 2), "the first was made of kept parts, which no rebuild may be"


def test_a_plan(settled: Station, built: str) -> None:
    path = plan(settled)
    said = settled.mvm("show", path, "--json")
    assert (said.code, broken(said)) == (0, {}), said.err
    found = nodes(said)
    assert found["plan"]["digest"] == str(Digest.of(path.read_bytes()))
    assert (found["plan"]["signer"], found["image"]["digest"]) == ("planner", built)
    assert "nothing was started" in found["plan"]["verdict"]["why"]


def test_a_machine(settled: Station, machine: str) -> None:
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (0, {}), said.err
    found = nodes(said)
    assert nodes(settled.mvm("show", machine[:5], "--json")) == found
    assert {"plan", "machine", "receipt", "log", "record/0", "record/1", "record/2", "image", "tree"} <= found.keys()
    receipt = (settled.state / "machines" / machine / "receipt.sigstore.json").read_bytes()
    assert (found["receipt"]["digest"], found["receipt"]["signer"]) == (str(Digest.of(receipt)), "host")
    assert [found[f"record/{index}"]["name"] for index in range(3)] == ["0: admission", "1: start", "2: end"]
    edges = said.answer("evidence")["edges"]
    assert {"from": "plan", "meaning": "ran as", "to": "machine"} in edges
    assert {"from": "record/1", "meaning": "sealed by", "to": "log"} in edges


def test_a_machine_by_its_name_among_others(settled: Station) -> None:
    reference = settled.flake()
    settled.mvm("run", reference, "--name", "one", "--", "true")
    settled.mvm("run", reference, "--name", "two", "--", "true")
    found = nodes(settled.mvm("show", "one", "--json"))
    assert "(one)" in found["machine"]["name"]
    assert {key for key in found if key.startswith("record/")} == {"record/0", "record/1", "record/2"}


def test_what_a_machine_was_started_from_is_kept_with_it(settled: Station, machine: str) -> None:
    kept = settled.state / "machines" / machine / "plan.sigstore.json"
    said = settled.mvm("plan", "show", kept)
    assert (said.code, "signed by planner" in said.err) == (0, True)
    assert nodes(settled.mvm("show", machine, "--json"))["plan"]["digest"] == str(Digest.of(kept.read_bytes()))


def test_a_plan_that_was_used_is_judged_as_of_its_start(settled: Station, machine: str) -> None:
    """A day later the plan could start nothing, and the machine's evidence is what it was."""
    kept = settled.state / "machines" / machine / "plan.sigstore.json"
    settled.monkeypatch.setattr("mvmnix.cli.commands.show.now", lambda: now() + timedelta(days=2))
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (0, {})
    said = settled.mvm("show", kept, "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.PLAN_EXPIRED}', '{Code.REPLAY}']"})


def test_a_machine_that_lives(settled: Station, built: str) -> None:
    bundle = plan(settled).read_bytes()
    wanted = named(settled, "hello")
    manifest, provenance = (Digest(wanted[key].removeprefix("sha256:")) for key in ("manifest", "provenance"))
    with settled.rooms() as rooms:
        digest, policy = Digest.of(bundle), rooms.policy.digest
        said: dict[str, Any] = {"manifest": manifest, "provenance": provenance}
        of = (digest, policy, manifest, provenance)
        status = MachineStatus(new_id(), "web", "hello", *of, state=MachineState.CREATED, created=now())
        with MachineHome.create(rooms.machines, status, bundle) as home:
            record = Record(
                kind=RecordKind.START,
                time=home.status.created,
                machine=home.status.machine,
                plan=digest,
                policy=policy,
                digests=said,
            )
            shown = settled.mvm("show", "web", "--json")
            assert broken(shown) == dict.fromkeys(("log", "machine", "plan"), "not verified"), "its start isn't logged"
            index = rooms.journal.append(record).index
            rooms.journal.append(replace(record, kind=RecordKind.PAUSE, digests={}))
            shown = settled.mvm("show", "web", "--json")
            assert (shown.code, broken(shown)) == (0, {})
            pause = {"from": "machine", "meaning": "logged in", "to": f"record/{index + 1}"}
            assert pause in shown.answer("evidence")["edges"], "it admitted nothing"
            assert "receipt" not in nodes(shown), "there is none yet"
        shown = settled.mvm("show", "web", "--json")
    assert broken(shown) == {"machine": "not verified", "receipt": "not verified"}
    assert "has no end of it" in nodes(shown)["machine"]["verdict"]["why"]


def test_a_rebuild_counts_once_it_verifies(settled: Station, built: str) -> None:
    where = settled.state / "rebuilds" / built.removeprefix("sha256:")
    where.mkdir(parents=True, mode=0o700)
    where.parent.chmod(0o700)
    (where / Digest.of(b"no bundle").hex).write_bytes(b"no bundle")
    (where / ("0" * 64)).write_bytes(b"another name")
    said = settled.mvm("show", built, "--json")
    verdicts = {verdict for key, verdict in broken(said).items() if key.startswith("rebuild/")}
    assert said.code == 1
    assert verdicts == {f"refused ['{Code.BUNDLE_MALFORMED}']", f"refused ['{Code.PROVENANCE_MISMATCH}']"}


def test_showing_changes_nothing(settled: Station, machine: str) -> None:
    before = snapshot(settled)
    settled.mvm("show", machine)
    settled.mvm("show", named(settled, "hello")["manifest"])
    assert snapshot(settled) == before


# -- how it is shown


def test_as_a_tree(settled: Station, machine: str) -> None:
    said = settled.mvm("show", machine)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"✓ machine {machine} (web)  verified\n")
    assert "built from ✓ flake tree path:hello#default  verified\n" in said.out
    assert said.out.splitlines()[-1].startswith("machine: verified (")


def test_as_a_page(settled: Station, built: str) -> None:
    path = settled.path / "evidence.html"
    said = settled.mvm("show", built, "--html", path)
    assert (said.code, said.out, said.err) == (0, "", f"wrote {path}\n")
    printed = settled.mvm("show", built, "--html", "-")
    for text in (path.read_text(), printed.out):
        assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
        assert built in text
        assert "Everything verified" in text
    both = settled.mvm("show", built, "--html", path, "--json")
    assert (both.code, "image" in nodes(both)) == (0, True)
    assert settled.mvm("show", built, "--html", "-", "--json").code == 2
    assert settled.mvm("show", built, "--html", settled.path / "nowhere/evidence.html").code == 2


def test_why_something_is_broken_is_said_beside_its_page(settled: Station, exported: Path) -> None:
    flip(exported / "kernel")
    page = settled.path / "evidence.html"
    said = settled.mvm("show", exported, "--html", page)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"wrote {page}\n✗ image hello  refused [artifact-mismatch")
    assert "why: " in said.err
    printed = settled.mvm("show", exported, "--html", "-")
    assert printed.out.startswith("<!DOCTYPE html>")
    assert "✗ image hello" in printed.err
    assert settled.mvm("show", exported, "--html", page, "--json").err == f"wrote {page}\n"


# -- what is named


def test_what_is_not_there(settled: Station, built: str) -> None:
    for text in ("nothing", "", "abc", "0" * 64, f"sha256:{'0' * 64}", settled.path):
        said = settled.mvm("show", text)
        assert (said.code, said.out) == (2, ""), text
        assert "next: " in said.err


def started(station: Station, machine: str) -> tuple[str, str]:
    value = json.loads((station.state / "machines" / machine / "machine.json").read_bytes())
    return str(value["created"]), machine


def test_of_several_machines_with_one_name_the_youngest_is_meant_and_that_is_said(settled: Station, built: str) -> None:
    for _ in range(2):
        assert settled.mvm("run", "--name", "web", f"path:{settled.path}/flakes/hello", "--", "true").code == 0
    runs = settled.mvm("ps", "--all", "--json").answer("machines")
    (youngest, other) = sorted((it["id"] for it in runs), key=lambda it: started(settled, it), reverse=True)
    said = settled.mvm("show", "web", "--json")
    assert said.code == 0, said.err
    assert said.err == f"mvm: 2 machines are called web: shown is {youngest}; name another by its id\n"
    by_id = {id_: settled.mvm("show", id_, "--json") for id_ in (youngest, other)}
    assert {it.err for it in by_id.values()} == {""}
    assert nodes(said)["machine"] == nodes(by_id[youngest])["machine"] != nodes(by_id[other])["machine"]


def test_what_could_be_two_things(settled: Station, machine: str) -> None:
    digest = named(settled, "hello")["manifest"].removeprefix("sha256:")
    for name, other in ((digest[:7], "an image"), (machine, "a machine")):
        (settled.path / name).write_bytes(b"a plan")
        settled.monkeypatch.chdir(settled.path)
        said = settled.mvm("show", name)
        assert (said.code, f"is a file and {other}" in said.err) == (2, True)
    assert settled.mvm("show", f"./{machine}").code == 1, "the file, which is no plan"
    assert settled.mvm("show", f"sha256:{digest[:7]}").code == 0
    assert settled.mvm("show", "").code == 2


def test_more_machines_than_one_begin_so(settled: Station, machine: str) -> None:
    other = machine[:6] + machine[6:].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    shutil.copytree(directory(settled, machine), directory(settled, other))
    edited(directory(settled, other), machine=other)
    said = settled.mvm("show", machine[:6])
    assert (said.code, "2 machines with the name or id" in said.err) == (2, True)
    assert settled.mvm("show", machine).code == 0


def test_without_a_policy_nothing_is_shown(settled: Station, built: str) -> None:
    (settled.config / "trust.toml").unlink()
    said = settled.mvm("show", built)
    assert (said.code, said.out) == (2, "")
    assert "policy-missing" in said.err


# -- what is broken


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)  # an exported file is read-only
    path.write_bytes(data)


def kept(room: str, digest: str) -> Callable[[Station], Path]:
    return lambda station: station.state / room / digest.removeprefix("sha256:")


@pytest.mark.parametrize("act", ["flip", "lose"])
@pytest.mark.parametrize("name", ["bundle", "parts", "sbom", "manifest", "kernel", "rootfs"])
def test_a_file_of_an_image(settled: Station, built: str, name: str, act: str) -> None:
    found = nodes(settled.mvm("show", built, "--json"))
    key = {"bundle": "provenance", "manifest": "image", "kernel": "file/kernel", "rootfs": "file/rootfs"}.get(
        name, name
    )
    (key,) = [
        each for each in found if each == key or (name == "parts" and each.startswith("parts/") and len(each) == 70)
    ]
    room = {"bundle": "bundles", "parts": "bundles", "sbom": "sboms"}.get(name, "images")
    path = kept(room, found[key]["digest"])(settled)
    flip(path) if act == "flip" else path.unlink()
    said = settled.mvm("show", built, "--json")
    code = Code.ARTIFACT_MISMATCH if name in {"kernel", "rootfs"} else Code.SOURCE_MISMATCH
    assert broken(said)[key] == (f"refused ['{code}']" if act == "flip" else "not verified")
    assert said.code == (1 if act == "flip" else 2)
    assert "policy" not in broken(said)
    told = settled.mvm("show", built)
    assert (told.code, "refused" in told.out) == (said.code, act == "flip")


def test_a_plan_of_somebody_unknown(settled: Station, built: str) -> None:
    said = settled.mvm("show", plan(settled, key=PrivateKey.generate()), "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.SIGNER_UNKNOWN}']"})


def test_a_plan_that_has_expired(settled: Station, built: str) -> None:
    window = {"notBefore": show_time(now() - timedelta(hours=2)), "notAfter": show_time(now() - timedelta(hours=1))}
    said = settled.mvm("show", plan(settled, window), "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.PLAN_EXPIRED}']"})


def test_a_plan_for_once_that_has_started(settled: Station, built: str) -> None:
    path = signed(settled, "--single-use")
    assert settled.mvm("show", path).code == 0, "looking spends nothing"
    assert settled.mvm("launch", path).code == 0
    said = settled.mvm("show", path, "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.REPLAY}']"})
    (nonce,) = (settled.state / "replay").glob("*/*")
    nonce.write_bytes(b"{}")
    said = settled.mvm("show", path, "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.STATE_MISMATCH}']"})


def test_a_plan_that_has_started_and_may_start_again(settled: Station, built: str) -> None:
    path = plan(settled)
    assert settled.mvm("launch", path).code == 0
    assert settled.mvm("show", path).code == 0


def test_a_plan_whose_image_is_gone(settled: Station, built: str) -> None:
    path = plan(settled)
    for room in ("builds", "plans"):
        for each in (settled.state / room).iterdir():
            each.unlink()
    said = settled.mvm("show", path, "--json")
    assert (said.code, broken(said)) == (2, {"plan": "not verified", "image": "not verified"})


def test_a_plan_for_what_is_broken(settled: Station, built: str) -> None:
    path = plan(settled)
    flip(kept("images", nodes(settled.mvm("show", built, "--json"))["file/kernel"]["digest"])(settled))
    said = settled.mvm("show", path, "--json")
    assert (said.code, broken(said)) == (
        1,
        {"plan": "not verified", **dict.fromkeys(("image", "file/kernel"), f"refused ['{Code.ARTIFACT_MISMATCH}']")},
    )


def test_what_is_no_plan(settled: Station, built: str) -> None:
    bundle = kept("bundles", named(settled, "hello")["provenance"])(settled)
    said = settled.mvm("show", bundle, "--json")
    assert (said.code, broken(said)) == (1, {"plan": f"refused ['{Code.SIGNER_ROLE}']"})


def test_a_machine_without_a_receipt(settled: Station, machine: str) -> None:
    (directory(settled, machine) / "receipt.sigstore.json").unlink()
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (2, {"receipt": "not verified"})
    assert nodes(said)["receipt"]["verdict"]["why"].startswith("there is none: ")


def test_a_receipt_that_was_changed(settled: Station, machine: str) -> None:
    flip(directory(settled, machine) / "receipt.sigstore.json")
    said = settled.mvm("show", machine, "--json")
    assert said.code == 1
    assert broken(said).keys() == {"receipt"}


def test_a_receipt_of_another_machine(settled: Station, machine: str) -> None:
    settled.mvm("run", f"path:{settled.path}/flakes/hello", "--", "true")
    ids = [each["id"] for each in settled.mvm("ps", "--all", "--json").answer("machines")]
    (other,) = set(ids) - {machine}
    receipt = (directory(settled, other) / "receipt.sigstore.json").read_bytes()
    (directory(settled, machine) / "receipt.sigstore.json").write_bytes(receipt)
    said = settled.mvm("show", machine, "--json")
    assert (said.code, set(broken(said))) == (1, {"receipt"})
    reasons = [reason["why"] for reason in nodes(said)["receipt"]["verdict"]["reasons"]]
    assert f"it is of the machine {other}, not of {machine}" in reasons
    assert {reason.partition(": the receipt says")[0] for reason in reasons} >= {"machine", "plan", "digest", "index"}


def resign_policy(station: Station, role: Role) -> None:
    """Take a role's signer out of the policy."""
    path = station.config / "trust.toml"
    head, *signers = path.read_text().split("[[signers]]")
    *rest, last = signers
    last, mark, tail = last.partition("[[builders]]")
    kept = [each for each in (*rest, last) if f'name = "{role}"' not in each]
    assert len(kept) == len(signers) - 1
    path.write_text(head + "".join(f"[[signers]]{each}" for each in kept) + mark + tail)


def test_a_host_that_the_policy_does_not_know(settled: Station, machine: str) -> None:
    """The log vouches for the receipt; the plan was made under another policy: nothing is refused, nothing ticked."""
    resign_policy(settled, Role.HOST)
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (2, {"receipt": "not verified", "plan": "not verified"})
    assert "host's key is not in the trust policy" in nodes(said)["receipt"]["verdict"]["why"]
    assert "not the one in force any more" in nodes(said)["plan"]["verdict"]["why"]


def test_a_log_that_was_changed(settled: Station, machine: str) -> None:
    log_changed(settled)
    said = settled.mvm("show", machine, "--json")
    assert said.code == 1
    assert broken(said)["log"].startswith(f"refused ['{Code.LOG_MISMATCH}'")
    assert broken(said)["machine"] == "not verified"
    assert "image" not in broken(said), "the rest is still shown"


@pytest.mark.parametrize("name", ["audit", "keys"])
def test_no_log_to_ask(settled: Station, machine: str, name: str) -> None:
    if name == "audit":
        for path in (settled.state / "audit").iterdir():
            path.unlink()
    else:
        (settled.config / "keys/host.pem").unlink()
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)["log"], broken(said)["machine"]) == (2, "not verified", "not verified")


def test_a_machine_whose_supervisor_was_lost(settled: Station, machine: str) -> None:
    edited(directory(settled, machine), "reason", "exitCode", state="running")
    (directory(settled, machine) / "receipt.sigstore.json").unlink()
    said = settled.mvm("show", machine, "--json")
    assert (said.code, broken(said)) == (2, {"receipt": "not verified"})
    assert nodes(said)["receipt"]["verdict"]["why"] == "there is none: guest-exit", "how it ended is the log's word"


@pytest.mark.parametrize("name", ["plan", "image"])
def test_a_machine_whose_plan_or_image_is_gone(settled: Station, machine: str, name: str) -> None:
    if name == "plan":
        (directory(settled, machine) / "plan.sigstore.json").unlink()
    else:
        settled.mvm("image", "rm", named(settled, "hello")["manifest"])
    said = settled.mvm("show", machine, "--json")
    wanted = {"plan"} if name == "plan" else {"plan", "image"}
    assert (said.code, broken(said)) == (2, dict.fromkeys(wanted, "not verified"))


def test_a_policy_that_was_rolled_back(settled: Station) -> None:
    path = settled.config / "trust.toml"
    before = path.read_text()
    path.write_text(before.replace("serial = 1 ", "serial = 2 "))
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    path.write_text(before)
    said = settled.mvm("show", named(settled, "hello")["manifest"], "--json")
    assert (said.code, broken(said)) == (1, {"policy": f"refused ['{Code.POLICY_ROLLBACK}']"})


def test_a_policy_that_has_expired(settled: Station, built: str) -> None:
    path = settled.config / "trust.toml"
    path.write_text(re.sub(r"(?m)^expires = \S+", "expires = 2026-01-01T00:00:00Z", path.read_text()))
    said = settled.mvm("show", built, "--json")
    found = broken(said)
    assert (said.code, found["policy"]) == (1, f"refused ['{Code.POLICY_EXPIRED}']")
    assert (found["image"], found["provenance"]) == ("not verified", "not verified")


def test_the_limits_of_a_plan(settled: Station) -> None:
    for options in ((), ("--tasks=7", "--system-calls=strict", "--data=16:/tmp/data")):
        said = settled.mvm("show", "--json", signed(settled, *options)).out
        assert ("tasks 7, systemCalls strict" in said) == bool(options)
        assert ("16 MiB at /tmp/data" in said) == bool(options)
