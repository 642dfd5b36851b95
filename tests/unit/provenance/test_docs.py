"""The documents say what the code does: their steps, codes and examples are held against it."""

import json
import re
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.launch.gate import snapshot, verify
from mvmnix.plan import kernel_command_line
from mvmnix.plan import plan as plans
from mvmnix.provenance.identity import transparency
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.policy import trust_text
from mvmnix.provenance.verify import authentication, summary
from mvmnix.provenance.verify import verify as provenance_verify
from tests.policies import effective
from tests.repository import ROOT
from tests.unit.provenance import world as worlds

DOCS = ROOT / "docs"
VERIFICATION = (DOCS / "explanation/verification.md").read_text()
PLAN = (DOCS / "reference/plan.md").read_text()


def steps(text: str) -> dict[str, list[str]]:
    """The first words of each numbered step of a text."""
    found = re.findall(r"(?m)^(\d+)[.] (.*)", text.replace("`", ""))
    return {number: re.split(r"[:;.]", words)[0].lower().split()[:6] for number, words in found}


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("## Who signed it", authentication),
        ("## The plan", verify),
        ("## A snapshot", snapshot),
        ("## The provenance", provenance_verify),
        ("## A summary", summary),
    ],
)
def test_the_steps_are_the_modules(section: str, module: object) -> None:
    text = VERIFICATION.split(section, 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    assert steps(text) == steps(module.__doc__ or "")


def test_the_witnesses_steps_are_the_modules() -> None:
    step = re.compile(r"(?ms)^ *-? *(3[.]\d) (.*?)(?=\n *-? *3[.]\d|\n\n|\Z)")
    found = [
        {number: re.split(r"[;:.]", " ".join(words.split()))[0] for number, words in step.findall(text)}
        for text in (VERIFICATION, transparency.__doc__ or "")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 8


def test_every_code_in_the_documents_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", VERIFICATION)) - {"authenticate", "dm-verity"}
    assert named <= set(ReasonCode)
    assert named >= {ReasonCode.PLAN_EXPIRED, ReasonCode.VERITY_MISMATCH, ReasonCode.LOCK_MISMATCH}


def test_the_example_policy_is_one() -> None:
    example, revoked = re.findall(r"```toml\n(.*?)```", (DOCS / "reference/trust-policy.md").read_text(), re.DOTALL)
    policy = effective(None, example.encode())
    assert [signer.name for signer in policy.signers] == ["builder", "planner"]
    assert len(RevocationFile.parse(revoked.encode()).entries) == 3
    whole = re.sub(r"(?m)^# (?=\[|\w+(?:-\w+)* = )", "", example).replace('"…"', f'"{"0" * 64}"')
    whole = whole.replace('signer = "gate"', 'signer = "ci"')
    complete = trust_text.parse(whole.encode())
    assert (len(complete.signers), len(complete.roots), len(complete.verifiers)) == (3, 1, 1)
    assert complete.signers[0].log == complete.roots[0].digest


def test_the_example_plan_has_the_fields_of_a_plan(tmp_path: Path) -> None:
    example, *_ = re.findall(r"```json\n(.*?)```", PLAN, re.DOTALL)

    def shape(value: object) -> object:
        return {name: shape(it) for name, it in value.items()} if isinstance(value, dict) else type(value).__name__

    plan = json.loads(plans.plan_statement(worlds.new_world(tmp_path).plan()).to_bytes())["predicate"]
    assert shape(json.loads(example)) == shape(plan)


def test_the_limit_of_the_command_line_is_documented() -> None:
    assert f"{kernel_command_line.LONGEST:,} bytes" in PLAN
    assert all(f"| `{name}` |" in PLAN for name in kernel_command_line.BACKEND_PARAMETERS)
