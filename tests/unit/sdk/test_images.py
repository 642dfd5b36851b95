"""Images, plans, verdicts and the audit log, on both faces."""

from pathlib import Path
from typing import Any

import pytest

from mvmnix import Deny, Secret, Share
from mvmnix.keys import Role
from mvmnix.sdk import errors
from tests.unit.cli.station import Station
from tests.unit.sdk.faces import Face, on_both

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@on_both
async def test_an_image_is_found_exported_and_verified(
    face: Face, guest: str, tmp_path: Path, settled: Station
) -> None:
    built = await face.Image.build(guest, out=tmp_path / "image")
    assert (built.name, built.level) == ("hello", 1)
    for name in ("hello", built.digest, built.digest.removeprefix("sha256:")[:12]):
        assert await face.Image.find(name) == (built,)
    assert built in await face.Image.list()
    assert await face.Image.verify(tmp_path / "image") == built
    async with face.Sandbox.run(built) as box:
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"
    (tmp_path / "image/manifest.json").chmod(0o600)
    (tmp_path / "image/manifest.json").write_bytes(b"{}")
    with pytest.raises(errors.NotVerified):
        await face.Image.verify(tmp_path / "image")
    with pytest.raises(errors.NotFound, match="no kept image has the name 'nosuch'") as missing:
        await face.Image.find("nosuch")
    assert "mvmnix.Image.list()" in missing.value.hint
    with pytest.raises(errors.InvalidArgument):
        await face.Image.build(settled.path / "nosuch")


@on_both
async def test_a_template_is_made_listed_used_and_removed(face: Face, settled: Station) -> None:
    settled.saves_guests()
    flake = settled.flake(verbs=["exec"])
    made = await face.Image.warm(flake)
    other = await face.Image.warm("image:hello", vcpus=made.vcpus + 1, memory_mib=300)
    assert (made.image, other.vcpus, other.memory_mib) == ("hello", made.vcpus + 1, 300)
    assert {*await face.Image.templates()} == {made, other}
    async with face.Sandbox.run(flake) as box:
        begun = await face.Audit.events(box.id, last=None)
    assert [str(each.record.digests["template"]) for each in begun if each.record.kind == "start"] == [made.key]
    with pytest.raises(errors.NotFound, match="there is no template 'nosuch'"):
        await face.Image.remove_templates(["hello", "nosuch"])
    assert await face.Image.remove_templates([made.key]) == (made.key,)
    assert await face.Image.remove_templates([other.key.removeprefix("sha256:")[:8]]) == (other.key,)
    assert await face.Image.templates() == ()


@on_both
async def test_a_template_that_cannot_be_made(face: Face, guest: str, settled: Station) -> None:
    for shape, name in (({"vcpus": 0}, "vcpus"), ({"memory_mib": 1}, "memory_mib")):
        with pytest.raises(errors.InvalidArgument, match=f"{name} is "):
            await face.Image.warm(guest, **shape)
    with pytest.raises(errors.InvalidArgument, match="the hypervisor can't save guests"):
        await face.Image.warm(guest)
    policy = settled.config / "trust.toml"
    text = policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 ")
    policy.write_bytes(text.replace(b'isolation = "microvm"', b'isolation = "microvm"\nwarm-starts = false'))
    with pytest.raises(errors.PolicyRefused, match="template-forbidden"):
        await face.Image.warm(guest)
    assert await face.Image.templates() == ()


@on_both
async def test_a_plan_is_drafted_signed_and_launched(face: Face, guest: str, tmp_path: Path) -> None:
    plan = await face.Plan.draft(guest, single_use=True, hours=1, verbs=["exec"], labels={"job": "7"})
    assert b'"job":"7"' in plan.statement
    bundle = await plan.sign(tmp_path / "plan.sigstore.json")
    assert (tmp_path / "plan.sigstore.json").read_bytes() == bundle
    async with face.Sandbox.launch(tmp_path / "plan.sigstore.json") as box:
        assert (box.verbs, box.labels) == ({"exec"}, {"job": "7"})
    with pytest.raises(errors.NotVerified, match="replay"):
        await face.Sandbox.launch(tmp_path / "plan.sigstore.json")
    with pytest.raises(errors.InvalidArgument, match="is there"):
        await (await face.Plan.draft(guest)).sign(tmp_path / "plan.sigstore.json")


@on_both
async def test_files_are_verified(face: Face, guest: str, tmp_path: Path, settled: Station) -> None:
    await face.Image.build(guest, out=tmp_path / "image")
    with settled.rooms() as context:
        (tmp_path / "key.pub").write_text(context.key(Role.BUILDER).public.pem)
        (tmp_path / "other.pub").write_text(context.key(Role.HOST).public.pem)
    bundle = str(tmp_path / "image/provenance.sigstore.json")
    names = [tmp_path / "image/kernel", tmp_path / "image/provenance.sigstore.json"]
    good, bad = await face.verify(names, bundle=bundle, key=str(tmp_path / "key.pub"))
    assert (good.is_verified, bad.is_verified) == (True, False)
    assert good.signers
    assert {reason.code for reason in bad.reasons} == {"subject-mismatch"}
    (other,) = await face.verify(names[:1], bundle=bundle, key=str(tmp_path / "other.pub"))
    assert not other.is_verified
    with pytest.raises(errors.InvalidArgument, match="give exactly one of key=, identity= and policy="):
        await face.verify(names, bundle=bundle)
    with pytest.raises(errors.InvalidArgument, match="there is no such file"):
        await face.verify(["/nosuch"], bundle=bundle, key=str(tmp_path / "key.pub"))
    with pytest.raises(TypeError, match=r"artifacts is a Sequence"):
        await face.verify("kernel", key="key")


@on_both
async def test_the_audit_log(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box:
        await box.exec(["true"])
    report = await face.Audit.verify()
    assert (report.unsealed_bytes, report.lost, report.missing) == (0, (), ())
    assert report.records >= 4
    assert [each.record.kind for each in await face.Audit.events(last=2)] == ["exec", "end"]
    assert len(await face.Audit.events(box.id, last=None)) == 3
    segment = max(
        (path for path in settled.state.glob("audit/*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"exec"', b'"copy"', 1))
    with pytest.raises(errors.NotVerified):
        await face.Audit.verify()


@on_both
async def test_what_the_command_line_refuses_is_refused(face: Face, guest: str, settled: Station) -> None:
    token = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
    rows: list[tuple[dict[str, Any], type[errors.Error], str]] = [
        ({"env": {"TOKEN": token}}, errors.PolicyRefused, "plaintext-credential"),
        ({"labels": {"job": token}}, errors.PolicyRefused, "plaintext-credential"),
        ({"command": ["curl", "-H", f"Authorization: Bearer {token}"]}, errors.PolicyRefused, "plaintext-credential"),
        ({"shares": [Share("/", "/data")]}, errors.PolicyRefused, "share-forbidden"),
        ({"shares": [Share(str(settled.state), "/data")]}, errors.PolicyRefused, "share-forbidden"),
        ({"network": [Deny("example.org")]}, errors.InvalidArgument, "invalid-argument"),
        ({"verbs": ["fly"]}, errors.InvalidArgument, "invalid-argument"),
        ({"verbs": ["stream"]}, errors.InvalidArgument, "invalid-argument"),
        ({"timeout": 0}, errors.InvalidArgument, "invalid-argument"),
        ({"labels": {"Job": "7"}}, errors.InvalidArgument, "invalid-argument"),
        ({"cwd": "relative"}, errors.InvalidArgument, "invalid-argument"),
    ]
    for options, kind, code in rows:
        for call in (face.Sandbox.run, face.Plan.draft):
            with pytest.raises(kind) as refused:
                await call(guest, **options)
            assert {reason.code for reason in refused.value.reasons} == {code}
            assert token not in str(refused.value)
            assert " --" not in str(refused.value)


@on_both
async def test_beside_secrets_no_verb_is_granted_unasked(face: Face, guest: str, settled: Station) -> None:
    settled.monkeypatch.setenv("TOKEN", "very secret")
    async with face.Sandbox.run(guest, secrets=[Secret.env("TOKEN")]) as box:
        assert box.verbs == frozenset()
        with pytest.raises(errors.NotGranted, match="beside secrets none is granted unasked"):
            await box.exec(["true"])
    async with face.Sandbox.run(guest, secrets=[Secret.env("TOKEN")], verbs=["exec"]) as box:
        assert (await box.exec(["reveal", "TOKEN"])).stdout == b"very secret"
    settled.monkeypatch.delenv("TOKEN")
    with pytest.raises(errors.Refused, match="secret-unavailable"):
        await face.Sandbox.run(guest, secrets=[Secret.env("TOKEN")])


@on_both
async def test_arguments_that_there_are_not(face: Face, guest: str) -> None:
    with pytest.raises(TypeError, match="unexpected arguments: memory; known: command"):
        await face.Sandbox.run(guest, memory=3)
    with pytest.raises(TypeError, match="verbs is a list"):
        await face.Sandbox.run(guest, verbs="exec")
