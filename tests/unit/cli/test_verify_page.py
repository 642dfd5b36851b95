"""The examples of the pages on `mvm verify` and the README's release run as printed, and end and print as they say."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mvmnix.model import FlakeRef
from tests.pages import expected_exit
from tests.repository import ROOT
from tests.unit.cli.releases import KEY, OTHER, policy, provenance, release, signed
from tests.unit.cli.station import Said, Station
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.forgeries import ISSUER, NOW, OURS, SUBJECT

REFERENCE, RELEASE, OFFLINE = (
    (ROOT / "docs" / name).read_text()
    for name in ("reference/verify.md", "how-to/verify-a-release.md", "how-to/verify-offline.md")
)

WORKLOAD = {"command": ["true"], "environment": {}, "directory": "/", "user": {"uid": 1000, "gid": 1000}}
AUTHOR = {"NAME": "A", "EMAIL": "a@mvmnix.test", "DATE": "2026-09-01T12:00:00Z"}


@pytest.fixture
def station(settled: Station) -> Station:
    """A directory with everything that the pages' examples name, in a checkout with an example."""
    flake = settled.flake()
    it = release(settled)
    here = it.path
    assert settled.mvm("build", flake, "--out", here / "image").code == 0
    assert settled.mvm("plan", "create", "--out", here / "plan", flake, "--", "true").code == 0
    assert settled.mvm("plan", "sign", here / "plan", "--out", here / "plan.json").code == 0
    for top, path, name in ((here / "app", here / "app", "app"), (here, here / "examples/hello", "hello")):
        settled.flake_file(path.parent, path.name)
        commit(top, here)
        settled.built(FlakeRef(str(path)), name, workload=WORKLOAD)
    (here / "builder.pub").write_text(settled.mvm("key", "show", "builder").out)
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


def commit(path: Path, home: Path) -> None:
    """Make a git work tree of a directory, with its flake alone."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
    for command in (("init", "-q", "--object-format=sha1"), ("add", "*flake.nix"), ("commit", "-q", "-m", "One")):
        subprocess.run(["git", *command], cwd=path, env={"PATH": "/usr/bin:/bin", "HOME": str(home), **who}, check=True)


def run(station: Station, line: str) -> Said:
    """A line as a shell takes it, with the command of mvm in this process."""
    inner = re.compile(r'"\$\(([^)]*)\)"')
    line = inner.sub(lambda it: subprocess.check_output(["sh", "-c", it[1]], text=True).strip(), line)
    program, *arguments = shlex.split(line, comments=True)
    if program == "mkdir":
        subprocess.run([program, *arguments], check=True)
        return Said(0, "", "")
    assert program == "mvm"
    *arguments, to, file = arguments if ">" in arguments else [*arguments, "", ""]
    said = station.mvm(*arguments)
    if to:
        Path(file).write_text(said.out)
    return said


def lines(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def examples(page: str) -> list[tuple[list[str], list[str]]]:
    """The blocks of a page that run: commands, and what they print."""
    found = []
    for kind, block, text in re.findall(r"(?s)```(sh|console)\n(.*?)```\n(?:```text\n(.*?)```\n)?", page):
        typed, shown = lines(block), lines(text)
        if kind == "console":
            shown = [line for line in typed if not line.startswith("$ ")]
            typed = [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
        found.append((typed, shown))
    return found


def test_there_are_examples() -> None:
    found = [example for page in (REFERENCE, RELEASE, OFFLINE) for example in examples(page)]
    assert len(found) >= 12
    assert sum(bool(shown) for _, shown in found) >= 3


def check(station: Station, typed: list[str], shown: list[str]) -> None:
    printed = ""
    for line in typed:
        said = run(station, line)
        assert said.code == expected_exit(line), f"{line}\n{said.err}"
        printed += said.out + said.err
    for line in shown:
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert re.search(rf"(?m)^{pattern}$", printed), printed


@pytest.mark.parametrize("page", [REFERENCE, RELEASE], ids=["reference", "release"])
def test_the_examples_from_top_to_bottom(station: Station, page: str) -> None:
    for typed, shown in examples(page):
        check(station, typed, shown)


def test_the_examples_over_the_gap(station: Station) -> None:
    """The last one under the policy that the page shows; a summary by a verifier that no policy names is refused."""
    *before, (typed, shown) = examples(OFFLINE)
    for block in before:
        check(station, *block)
    *making, launch = typed
    key = station.mvm("key", "create", "verifier").out
    who = station.mvm("key", "show", "--json", "verifier").answer("key")["fingerprint"]
    check(station, making, shown)
    assert run(station, launch).code == 126
    (policy_text,) = re.findall(r"(?s)```toml\n(.*?)```", OFFLINE)
    trust = station.config / "trust.toml"
    added = policy_text.replace('"KEY"', f"'''{key}'''").replace("FINGERPRINT", who)
    trust.write_text(f"{trust.read_text()}\n{added}")
    for path in ("new-plan.json", "carried/new-plan.sigstore.json", "carried/vsa.sigstore.json"):
        Path(path).unlink()
    check(station, typed, shown)


def test_the_readme_s_release(station: Station) -> None:
    section = (ROOT / "README.md").read_text().split("\n## In a release workflow\n", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"(?s)```sh\n(.*?)```", section)
    keyed, keyless = lines(block)
    said = run(station, keyed)
    assert said.code == 0, said.err
    shutil.copy("keyless.json", "app.img.sigstore.json")
    said = run(station, keyless)
    assert said.code == 0, said.err
