"""A plan is admitted once its evidence verifies, and nothing of it is verified twice."""

from unittest.mock import patch

import pytest

from mvmnix.api.admission import admit_plan
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate import signatures
from tests.unit.cli.plans import signed
from tests.unit.cli.policies import revoke
from tests.unit.cli.station import Station


def test_the_signatures_of_a_plan_for_a_kept_image_are_verified_once(settled: Station) -> None:
    plan = signed(settled).read_bytes()
    with (
        settled.rooms() as context,
        patch.object(signatures, "gather", wraps=signatures.gather) as gather,
        admit_plan(context, plan) as verified,
    ):
        assert verified.image.name == "hello"
    assert gather.call_count == 1


def test_what_was_revoked_since_the_context_was_opened_does_not_start(settled: Station) -> None:
    plan = signed(settled).read_bytes()
    with settled.rooms() as context:
        with admit_plan(context, plan) as verified:
            kernel = verified.image.kernel.digest
        revoke(settled.config, kernel.hex)
        with pytest.raises(RefusedError) as refused, admit_plan(context, plan):
            pass
    assert refused.value.codes == (ReasonCode.IMAGE_REVOKED,)
