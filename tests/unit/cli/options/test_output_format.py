"""How results are printed: by a template in which nothing is evaluated, as JSON, as ids; one of them."""

import json
import re

import pytest

from mvmnix.cli.options.output_format import Template
from tests.repository import ROOT
from tests.unit.cli.machines import launched
from tests.unit.cli.plans import sign_plan
from tests.unit.cli.station import Station

ENTRY = {"id": "3f", "exitCode": None, "verified": True, "signers": ["a", "b"], "labels": {"tier": "\x1b[2J\nx"}}


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{.id}}", "3f"),
        ("{{ .ID }}", "3f"),
        (r"{{.Id}}\t{{.verified}}", "3f\ttrue"),
        ("<{{.exitCode}}>", "<>"),
        ("{{.ExitCode}}{{.signers}}", "a, b"),
        ("{{.labels.tier}}", "\\u001b[2J\\nx"),
        ("{{.labels.none}}-{{.labels.tier.none}}", "-"),
        ("{{json .labels}}", json.dumps(ENTRY["labels"])),
        ("{{json .}}", json.dumps(ENTRY, sort_keys=True)),
        ("{ {{.id}} }", "{ 3f }"),
    ],
)
def test_a_template(template: str, line: str) -> None:
    assert Template.parse(template).render(ENTRY) == line


@pytest.mark.parametrize(
    "template",
    [
        *("", "yaml", "{{", "{{.id", ".id}}", "{{id}}", "{{.}}", "{{..id}}", "{{.id}} {{", "{{.id | len}}"),
        *("{{range .}}{{end}}", "{{.id.}}", "table {{.id}}", "{{.id\n}}\0{{}}", "{{.id}}" + "x" * 4096),
    ],
)
def test_what_is_no_template(station: Station, template: str) -> None:
    with pytest.raises(ValueError, match=r"template|braces|field"):
        Template.parse(template)
    if "\0" not in template:
        said = station.mvm("ps", "--format", template)
        assert (said.code, said.out) == (2, "")
        assert "{{.id}} {{.name}}" in said.err


PAGE = (ROOT / "docs/reference/output.md").read_text()


def fields(command: str) -> set[str]:
    """The fields that the page documents for a command, beside those of another."""
    (row,) = re.findall(rf"(?m)^\| `{command}` \| (.*) \|$", PAGE)
    return set(re.findall(r"`(\w+)`", row))


def test_machines(settled: Station) -> None:
    machine = launched(settled, "true", name="web", options=("-l", "tier=front"))
    settled.mvm("wait", machine)
    assert settled.mvm("ps", "-a", "--format", "{{.ID}} {{.Name}} {{.labels.tier}}").out == f"{machine} web front\n"
    assert settled.mvm("ps", "-aq").out == f"{machine}\n"
    assert settled.mvm("ps", "-a", "--format", "json").answer("machines")[0]["id"] == machine
    assert settled.mvm("ps", "-a", "--format", "table").out == settled.mvm("ps", "-a").out
    assert settled.mvm("inspect", "web", "--format", "{{.exitCode}} {{.digests.plan}}").out.startswith("0 ")
    assert settled.mvm("inspect", "web", "--json").answer("machine")["name"] == "web"
    said = settled.mvm("ps", "-a", "--format", "{{.Names}}")
    assert (said.code, said.out) == (2, "")
    assert "there is no field 'Names'" in said.err
    assert "the fields are: accelerator, created, ended, exitCode, id, image, labels, name, state" in said.err
    assert settled.mvm("ps", "--format", "{{.Names}}").out == "", "no machine, no fields"
    assert settled.mvm("ps", "-a", "--json").answer("machines")[0].keys() == fields("ps")
    assert settled.mvm("inspect", "web", "--json").answer("machine").keys() == fields("ps") | fields("inspect")
    assert settled.mvm("version", "--json").answer("version").keys() == fields("version")
    launched(settled, "linger")
    assert settled.mvm("stats", "--json").answer("stats")[0].keys() == fields("stats")


def test_images_and_plans(settled: Station) -> None:
    settled.flake("greeting")
    listed = settled.mvm("images", "--json").answer("images")
    assert set[str]().union(*listed) == fields("image ls") - {"reasons"}
    (digest,) = (record["manifest"] for record in listed if record["name"] == "greeting")
    inspected = settled.mvm("image", "inspect", "greeting", "--json").answer("image")
    assert inspected[0].keys() == fields("image inspect") | fields("image ls") - {"reasons"}
    assert digest in settled.mvm("images", "-q").out.split()
    assert settled.mvm("images", "-q").out == settled.mvm("image", "ls", "--quiet").out
    assert f"greeting {digest}\n" in settled.mvm("images", "--format", "{{.name}} {{.manifest}}").out
    assert settled.mvm("image", "inspect", "greeting", "--format", "{{.posture}}").out == "dev\n"
    sign_plan(settled, "greeting")
    (plan,) = settled.mvm("plan", "ls", "--json").answer("plans")
    assert plan.keys() == fields("plan ls")
    assert settled.mvm("plan", "ls", "-q").out == f"{plan['plan']}\n"


@pytest.mark.parametrize("words", [("--json", "-q"), ("--json", "--format", "{{.id}}"), ("-q", "--format", "{{.id}}")])
def test_two_ways_to_print(station: Station, words: tuple[str, ...]) -> None:
    said = station.mvm("ps", *words)
    assert (said.code, said.out) == (2, "")
    assert "exclude each other" in said.err
