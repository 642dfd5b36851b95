"""The list of shares in CONFIG: where it stands, and its bytes."""

from dataclasses import replace

import pytest

from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig, Mount
from mvmnix.model import User, Verb
from mvmnix.plan.secret_reference import Secret, SecretTarget
from mvmnix.plan.share import ShareKind
from tests.unit.launch.host_frames import read_config

MOUNTS = (
    Mount("share0", "/data", ShareKind.VIRTIOFS, read_only=False),
    Mount("share1", "/set", ShareKind.EROFS, read_only=True),
)
CONFIG = GuestConfig("mvm", 1, bytes(ENTROPY_BYTES), 0, User(1, 1), verbs=frozenset({Verb.EXEC}))


def test_config_says_them_between_secrets_and_command() -> None:
    with_both = replace(CONFIG, shares=MOUNTS, secrets=(Secret("it", SecretTarget.FILE, b"value"),))
    assert read_config(with_both.encode()) == with_both
    assert with_both.encode().index(b"value") < with_both.encode().index(b"share0")
    assert read_config(CONFIG.encode()).shares == ()


def test_its_bytes() -> None:
    share = b"\0\0\0\1" + b"\0\0\0\6share1" + b"\0\0\0\4/set" + b"\2\1"
    assert share in replace(CONFIG, shares=MOUNTS[1:]).encode()


@pytest.mark.parametrize(
    ("tag", "place"), [("", "/data"), ("../x", "/data"), ("x" * 17, "/data"), ("share0", "data"), ("share0", "/")]
)
def test_what_the_guest_would_refuse(tag: str, place: str) -> None:
    with pytest.raises(ValueError, match="not a share's tag and place"):
        Mount(tag, place, ShareKind.EROFS, read_only=True)
