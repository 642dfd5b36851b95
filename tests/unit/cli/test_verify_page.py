"""The examples of docs/verify.md and of the README's release run as printed, and end and print as they say."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mvmnix.model import FlakeRef
from tests.repository import ROOT
from tests.unit.cli.releases import KEY, OTHER, policy, provenance, release, signed
from tests.unit.cli.station import Said, Station
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.forgeries import ISSUER, NOW, OURS, SUBJECT

PAGE = (ROOT / "docs/verify.md").read_text()
BLOCKS = re.findall(r"(?s)```sh\n(.*?)```\n(?:```text\n(.*?)```\n)?", PAGE)

AUTHOR = {"NAME": "A", "EMAIL": "a@mvmnix.test", "DATE": "2026-09-01T12:00:00Z"}


@pytest.fixture
def station(settled: Station) -> Station:
    """A directory with everything that the page's examples name."""
    flake = settled.flake()
    it = release(settled)
    here = it.path
    assert settled.mvm("build", flake, "--out", here / "image").code == 0
    assert settled.mvm("plan", "create", "--out", here / "plan", flake, "--", "true").code == 0
    assert settled.mvm("plan", "sign", here / "plan", "--out", here / "plan.json").code == 0
    work_tree(settled, here)
    (here / "release.pub").write_text(KEY.public.pem)
    statement = foreign.to_bytes(foreign.statement(foreign.V1, foreign.workflow()))
    (here / "keyless.json").write_bytes(OURS.attest(statement, at=NOW, subject=SUBJECT, issuer=ISSUER))
    (here / "root.json").write_bytes(OURS.trusted_root)
    (here / "all.jsonl").write_bytes(b"\n".join((provenance(OTHER), provenance(), signed({}))))
    policy(it, pattern="git+https://git.example/org/*")
    (here / "policy/image").mkdir(mode=0o700)
    shutil.copy(settled.config / "trust.toml", here / "policy/image/trust.toml")
    settled.monkeypatch.chdir(here)
    return settled


def work_tree(station: Station, here: Path) -> None:
    """A git work tree called app whose image was built; its commit is the same at any time."""
    path = station.flake_file(here, "app")
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    for command in (("init", "-q", "--object-format=sha1"), ("add", "flake.nix"), ("commit", "-q", "-m", "One")):
        subprocess.run(["git", *command], cwd=path, env={"PATH": "/usr/bin:/bin", "HOME": str(here), **who}, check=True)
    station.built(FlakeRef(str(path)), "app")
    (here / "builder.pub").write_text(station.mvm("key", "show", "builder").out)


def run(station: Station, line: str) -> Said:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "mvm"
    return station.mvm(*arguments)


def lines(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 8
    assert sum(bool(shown) for _, shown in BLOCKS) >= 3


def check(station: Station, block: str, shown: str) -> None:
    printed = ""
    for line in lines(block):
        expected = re.search(r"# exit code (\d)$", line)
        said = run(station, line)
        assert said.code == (int(expected[1]) if expected else 0), said.err
        printed += said.out + said.err
    for line in lines(shown):
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert re.search(rf"(?m)^{pattern}$", printed), printed


def test_the_examples_from_top_to_bottom(station: Station) -> None:
    for block, shown in BLOCKS:
        check(station, block, shown)
    (sentence,) = re.findall(r"`(mvm launch --image [^`]*plan\.json)`", PAGE)
    for left_out in ("", "--vsa vsa.sigstore.json "):
        said = run(station, sentence.replace(left_out, ""))
        assert said.code == (126 if not left_out else 0), said.err


def test_the_readme_s_release(station: Station) -> None:
    section = (ROOT / "README.md").read_text().split("\n## In a release workflow\n", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"(?s)```sh\n(.*?)```", section)
    keyed, keyless = lines(block)
    said = run(station, keyed)
    assert said.code == 0, said.err
    shutil.copy("keyless.json", "app.img.sigstore.json")
    said = run(station, keyless)
    assert said.code == 0, said.err
