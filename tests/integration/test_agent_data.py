"""A data disk's place in CONFIG, as the guest agent itself takes it: an absolute path behind the limits, or nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import Config
from mvmnix.launch.agent.transport import encode
from mvmnix.model import SystemCalls
from tests.integration.agent_house import config, failure, takes

pytestmark = pytest.mark.integration
PLACE = b"\0\0\0\x09/tmp/data"


def said() -> bytes:
    return encode(Config(replace(config(), data="/tmp/data", tasks=7, system_calls=SystemCalls.STRICT)))


def test_it_is_taken(agent: Path) -> None:
    assert takes(agent, said())


@pytest.mark.parametrize(
    "wrong",
    [b"\0\0\0\x09tmp//data", b"\0\0\0\x09/tmp\0data", b"\0\0\0\x0a/tmp/data", b"\0\0\x10\x01/tmp/data"],
    ids=["relative", "with a NUL", "longer than it is", "longer than a path may be"],
)
def test_anything_else_ends_the_conversation(agent: Path, wrong: bytes) -> None:
    data = said().replace(PLACE, wrong)
    assert data != said()
    failure(agent, data)
