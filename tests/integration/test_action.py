"""The action does for a workflow what `mvm verify` does: its script as a runner runs it, and what zizmor says of it."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from mvmnix.system import process
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.unit.cli.releases import KEY, OTHER, provenance, signed
from tests.unit.provenance import foreign_world as foreign

pytestmark = pytest.mark.integration

ACTION = ROOT / "action/action.yml"
CLAIMS = ROOT / "action/claims/action.yml"
WORKFLOW = ROOT / "examples/release/workflow.yml"
TEXT = ACTION.read_text()
#: Of the inputs: the runner hands them on for what a step leaves out.
DEFAULTS = dict(re.findall(r'(?m)^ {2}([a-z-]+):\n {4}description: .*\n {4}default: "(.*)"$', TEXT))


def scripts(text: str) -> list[str]:
    """The scripts of the action, as the runner gets them: one installs, and the last one verifies."""
    found = re.findall(r"(?m)^ {6}run: \|\n((?: {8}.*\n|\n)+)", text)
    return [re.sub(r"(?m)^ {8}", "", each) for each in found]


class Runner:
    """A directory with what a runner sets up, and an artifact to be released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "temp/mvm/bin").mkdir(parents=True)
        (path / "home").mkdir()
        python = path / "temp/mvm/bin/python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (path / "app.img").write_bytes(foreign.ARTIFACT)
        (path / "app.img.sigstore.json").write_bytes(provenance())
        (path / "release.pub").write_text(KEY.public.pem)
        self.summary, self.output = path / "summary.md", path / "output"

    def step(self, **inputs: str) -> process.Completed:
        """The one that verifies."""
        return self.run(scripts(TEXT)[-1], **inputs)

    def run(self, script: str, **inputs: str) -> process.Completed:
        self.summary.write_text("")
        self.output.write_text("")
        said = {name.replace("_", "-"): text for name, text in inputs.items()}
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path / "home"),
            "RUNNER_TEMP": str(self.path / "temp"),
            "GITHUB_ACTION_PATH": str(ROOT / "action"),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.output),
            "INPUTS": json.dumps(DEFAULTS | said),
        }
        argv = ("/usr/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script)
        return process.run(argv, env=env, cwd=str(self.path), check=False, timeout=EVENT_PATIENCE)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_what_lies_in_the_workspace_is_not_run(runner: Runner) -> None:
    """It is what will be verified. No index is asked: pip ends for want of the wheels, and not before."""
    (runner.path / "temp/mvm/bin/python").unlink()
    for name in ("venv", "pip", "ensurepip", "json", "logging", "pathlib", "sitecustomize"):
        (runner.path / f"{name}.py").write_text(f"open({str(runner.path / 'ran')!r}, 'a').write({name!r})\n")
    install, _ = scripts(TEXT)
    done = runner.run(f"export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1\n{install}")
    assert not (runner.path / "ran").exists()
    assert (done.status, b"No matching distribution found" in done.stderr) == (1, True), done.stderr
    assert (runner.path / "temp/mvm/requirements.txt").read_text().startswith("annotated")


def test_verified(runner: Runner) -> None:
    asked = {"artifacts": "app.img\n", "key": "release.pub", "type": "slsaprovenance1"}
    done = runner.step(**asked, source_uri=foreign.REPOSITORY, source_tag=foreign.TAG)
    assert done.status == 0, done.stderr.decode()
    assert runner.output.read_text() == "verified=true\n"
    assert runner.summary.read_text().startswith("### mvm verify: verified\n\n| artifact | verdict | |\n")
    assert "app&#46;img | verified | https&#58;&#47;&#47;slsa" in runner.summary.read_text()
    assert b"::" not in done.stdout.replace(b"\\u003a", b"")


@pytest.mark.root("container jobs run as root")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_as_root_with_files_that_root_alone_may_read(runner: Runner, mode: int) -> None:
    """No system user is needed for it; what writes the summary and the output is the runner's own step."""
    runner.path.chmod(mode)
    for name in ("app.img", "app.img.sigstore.json", "release.pub"):
        (runner.path / name).chmod(mode & 0o644)
    asked = {"artifacts": "app.img\n", "key": "release.pub", "type": "slsaprovenance1"}
    done = runner.step(**asked, source_uri=foreign.REPOSITORY, source_tag=foreign.TAG)
    assert done.status == 0, done.stderr.decode()
    assert runner.output.read_text() == "verified=true\n"
    assert runner.step(**asked, source_tag="v9").status == 1
    assert runner.output.read_text() == "verified=false\n"


def test_refused(runner: Runner) -> None:
    done = runner.step(artifacts="app.img", key="release.pub", source_tag="v9")
    assert done.status == 1
    assert runner.output.read_text() == "verified=false\n"
    assert "refused &#91;source&#45;mismatch&#93;" in runner.summary.read_text()
    (command, *_) = done.stdout.decode().splitlines()
    assert command.startswith("::error title=mvm verify::app.img: refused [source-mismatch]: expected refs/tags/v9")


def test_the_package_of_an_artifact(runner: Runner) -> None:
    package = "pkg:npm/%40org/app@1.2.3"
    statement = foreign.statement(foreign.V1, foreign.workflow())
    statement["subject"][0]["name"] = package
    (runner.path / "app.img.sigstore.json").write_bytes(signed(statement))
    asked = {"artifacts": "app.img", "key": "release.pub"}
    done = runner.step(**asked, package=package)
    assert (done.status, f", package {package}, by key".encode() in done.stdout) == (0, True), done.stderr
    done = runner.step(**asked, package="pkg:npm/%40other/app@1.2.3")
    assert (done.status, b"refused [subject-mismatch]: expected pkg:npm/%2540other" in done.stdout) == (1, True)
    assert runner.step(**asked, package="").status == 2, "an unset variable"


def test_could_not_verify(runner: Runner) -> None:
    done = runner.step(artifacts="app.img")
    assert done.status == 2
    assert runner.summary.read_text().startswith("### mvm verify: could not verify\n\nmvm&#58; give exactly one of")
    assert runner.output.read_text() == "verified=false\n"
    assert runner.step(artifacts="app.img", key="release.pub", source_tag="").status == 2, "an unset variable"
    assert runner.output.read_text() == "verified=false\n"
    assert runner.step(artifacts="--help", key="release.pub").status == 2, "no option comes in as an artifact"


EVIL = "https://git.example/\n::set-output name=verified::true\n|<img src=x>`$(touch evil)`##[add-path]/"


def test_strangers_words_are_text_in_every_sink(runner: Runner) -> None:
    statement = foreign.statement(foreign.V1, foreign.workflow())
    statement["predicate"]["runDetails"]["builder"]["id"] = "https://builder.example/" + EVIL.replace("\n", "")
    (runner.path / "app.img.sigstore.json").write_bytes(signed(statement))
    name = "a::set-env name=PATH::x|<b>`id`.img"
    (runner.path / name.replace("/", "_")).write_bytes(foreign.ARTIFACT)
    done = runner.step(artifacts=f"app.img\n{name}", bundle="app.img.sigstore.json", key="release.pub", builder_id=EVIL)
    assert done.status == 1
    assert not (runner.path / "evil").exists()
    text = runner.summary.read_text()
    assert not re.search(r"[<>`$]", text.split("\n", 4)[4])
    assert all(len(re.findall(r"(?<!&#124;)\|", line)) == 4 for line in text.splitlines()[2:])
    for line in done.stdout.decode().splitlines():
        assert not re.match(r" *::(?!error title=mvm verify::)", line)
        assert "##[" not in line


def test_several_signers_in_one_summary(runner: Runner) -> None:
    (runner.path / "all.jsonl").write_bytes(b"\n".join((provenance(), provenance(OTHER))))
    done = runner.step(artifacts="app.img", key="release.pub", bundle="all.jsonl")
    assert done.status == 0
    assert runner.summary.read_text().count("| verified |") == 1


def test_inputs_get_through_as_one_variable() -> None:
    assert "        INPUTS: ${{ toJSON(inputs) }}\n" in TEXT
    assert "${{" not in "".join(scripts(TEXT)), "nothing is pasted into a script"


@pytest.mark.parametrize("path", [ACTION, CLAIMS, WORKFLOW], ids=lambda path: path.parent.name)
def test_everything_is_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)", path.read_text())
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each) for each in used)


def test_wheels_are_those_of_the_lock() -> None:
    done = process.run((sys.executable, str(ROOT / "action/requirements.py")))
    locked = json.loads((ROOT / "modules/python/lock.json").read_bytes())["packages"]
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(locked) > 20
    assert f"sigstore=={locked['sigstore']['version']} --hash=sha256:{locked['sigstore']['sha256']}" in lines


def test_zizmor_finds_nothing() -> None:
    options = ("--offline", "--no-config", "--no-progress", "--persona=auditor", "--strict-collection")
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    done = process.run((zizmor, *options, str(ACTION), str(CLAIMS), str(WORKFLOW)), check=False, timeout=EVENT_PATIENCE)
    assert done.status == 0, done.stdout.decode()


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    (tmp_path / ".github/workflows").mkdir(parents=True)
    bad = tmp_path / ".github/workflows/bad.yml"
    bad.write_text(
        WORKFLOW.read_text().replace("permissions: {}\n", "").replace(" persist-credentials: false", " clean: true")
    )
    done = process.run(
        (str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-config", "--no-progress", str(bad)),
        check=False,
        timeout=EVENT_PATIENCE,
    )
    assert done.status != 0
