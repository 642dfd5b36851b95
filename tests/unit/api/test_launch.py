"""A plan is admitted once its evidence verifies, and nothing of it is verified twice."""

from unittest.mock import patch

from mvmnix.api import Context, admit_plan
from mvmnix.launch.gate import signatures
from tests.unit.cli.station import Station


def test_the_signatures_of_a_plan_for_a_kept_image_are_verified_once(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    assert settled.mvm("plan", "create", "--out", plan, settled.flake()).code == 0
    assert settled.mvm("plan", "sign", plan, "--out", bundle).code == 0
    with (
        settled.roots() as roots,
        Context(roots) as context,
        patch.object(signatures, "gather", wraps=signatures.gather) as gather,
        admit_plan(context, bundle.read_bytes()) as verified,
    ):
        assert verified.image.name == "hello"
    assert gather.call_count == 1
