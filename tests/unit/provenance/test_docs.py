"""The documents say what the code does: their steps, codes and examples are held against it."""

import json
import re
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.launch import command_line, verify
from mvmnix.launch import plan as plans
from mvmnix.provenance import authenticate, policy_text
from mvmnix.provenance import verify as provenance_verify
from tests.unit.provenance import world as worlds

DOCS = Path(__file__).parents[3] / "docs"
VERIFICATION = (DOCS / "verification.md").read_text()
PLAN = (DOCS / "plan.md").read_text()


def steps(text: str) -> dict[str, list[str]]:
    """The first words of each numbered step of a text."""
    found = re.findall(r"(?m)^(\d+)[.] (.*)", text.replace("`", ""))
    return {number: re.split(r"[:;.]", words)[0].lower().split()[:6] for number, words in found}


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("## Who signed it", authenticate),
        ("## The plan", verify),
        ("## The provenance", provenance_verify),
    ],
)
def test_the_steps_are_the_modules(section: str, module: object) -> None:
    text = VERIFICATION.split(section, 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    assert steps(text) == steps(module.__doc__ or "")


def test_every_code_in_the_documents_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", VERIFICATION)) - {"authenticate", "dm-verity"}
    assert named <= set(ReasonCode)
    assert named >= {ReasonCode.PLAN_EXPIRED, ReasonCode.VERITY_MISMATCH, ReasonCode.LOCK_MISMATCH}


def test_the_example_policy_is_one() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (DOCS / "trust-policy.md").read_text(), re.DOTALL)
    policy = policy_text.effective(None, example.encode())
    assert [signer.name for signer in policy.signers] == ["builder", "planner"]


def test_the_example_plan_has_the_fields_of_a_plan(tmp_path: Path) -> None:
    example, *_ = re.findall(r"```json\n(.*?)```", PLAN, re.DOTALL)

    def shape(value: object) -> object:
        return {name: shape(it) for name, it in value.items()} if isinstance(value, dict) else type(value).__name__

    plan = json.loads(plans.to_statement(worlds.new_world(tmp_path).plan()).to_bytes())["predicate"]
    assert shape(json.loads(example)) == shape(plan)


def test_the_limit_of_the_command_line_is_documented() -> None:
    assert f"{command_line.LONGEST:,} bytes" in PLAN
    assert all(f"| `{name}` |" in PLAN for name in command_line.BACKEND_PARAMETERS)
