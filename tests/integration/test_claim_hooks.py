"""Claim lint of a small project: by the hook's entry, and by the script of the workflow's step."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from mvmnix.system import process
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.integration

STEP = re.sub(r"(?m)^ {8}", "", (ROOT / "action/claims/action.yml").read_text().rpartition("      run: |\n")[2])
HOOK = (ROOT / ".pre-commit-hooks.yaml").read_text()
GOOD = "# Box\n\nA guest can't reach the host's network. Witness: `checks/test_net.py::test_host`.\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a document and a test, and beside it what a runner sets up."""
    root = tmp_path / "project"
    (root / "checks").mkdir(parents=True)
    (root / "README.md").write_text(GOOD)
    (root / "checks/test_net.py").write_text("def test_host(): pass\n")
    python = tmp_path / "temp/mvm-lint/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return root


def run(project: Path, *argv: str, **variables: str) -> process.Completed:
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(project.parent), **variables}
    return process.run(argv, env=env, cwd=str(project), check=False, timeout=EVENT_PATIENCE)


def step(project: Path, **inputs: str) -> process.Completed:
    variables = {"PATHS": "", "JUNIT": ""} | inputs
    variables |= {"RUNNER_TEMP": str(project.parent / "temp"), "GITHUB_ACTION_PATH": str(ROOT / "action/claims")}
    return run(project, "/usr/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEP, **variables)


def test_the_hook_lints_the_project(project: Path) -> None:
    [entry] = re.findall(r"(?m)^ +entry: (.*)$", HOOK)
    hook = ("/usr/bin/env", *shlex.split(entry))
    assert run(project, *hook).status == 0
    (project / "checks/test_net.py").write_text("def test_renamed(): pass\n")
    done = run(project, *hook)
    where = "README.md:3:51: missing-witness: checks/test_net.py::test_host"
    assert (done.status, done.stdout.decode()) == (1, f"{where}: its file has no such test: name a test that runs\n")


def test_the_step_writes_sarif_and_lines(project: Path) -> None:
    assert step(project).status == 0
    assert json.loads((project.parent / "temp/mvm-lint/claims.sarif").read_text())["runs"][0]["results"] == []
    (project / "README.md").write_text(f"{GOOD}\nIt is unhackable.\n")
    done = step(project)
    [result] = json.loads((project.parent / "temp/mvm-lint/claims.sarif").read_text())["runs"][0]["results"]
    assert (done.status, result["ruleId"]) == (1, "broad-phrase")
    assert b"\nREADME.md:5:7: broad-phrase: unhackable: " in done.stdout


def test_the_step_takes_paths_and_results(project: Path) -> None:
    (project / "other page.md").write_text("It is unhackable.\n")
    (project / "junit.xml").write_text(
        '<testsuite><testcase classname="checks.test_net" name="test_host"><skipped/></testcase></testsuite>'
    )
    assert step(project, PATHS="README.md\n").status == 0
    done = step(project, PATHS="README.md\nother page.md\n", JUNIT="junit.xml\n")
    assert done.status == 1
    assert re.findall(rb"(?m)^[^:\n]+:\d+:\d+: ([a-z-]+)", done.stdout) == [b"missing-witness", b"broad-phrase"]
    assert step(project, PATHS="--help\n").status == 2, "no option comes in as a path"


def test_no_link_of_the_workspace_is_written_through(project: Path) -> None:
    (project.parent / "victim").write_text("as it was")
    for name in ("claims.sarif", "mvm-lint", "temp"):
        (project / name).symlink_to(project.parent / "victim")
    assert step(project).status == 0
    assert (project.parent / "victim").read_text() == "as it was"


def test_words_of_a_document_are_no_commands_to_the_runner(project: Path) -> None:
    (project / "::set-output name=a::.md").write_text("It is unhackable.\n")
    (project / "##[add-path]x.md").write_bytes(b"\xff")
    done = step(project)
    assert b"add-path" in done.stderr
    lines = done.stdout.decode().splitlines()
    assert re.fullmatch(r"::stop-commands::[0-9a-f]{32}", lines[0])
    assert any(line.startswith("::set-output") for line in lines[1:])


def test_nothing_is_pasted_into_the_step() -> None:
    assert "${{" not in STEP
