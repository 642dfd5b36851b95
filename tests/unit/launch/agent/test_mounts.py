"""The list of shares in CONFIG: read as it was written, and refused when it is anything else."""

from dataclasses import replace

import pytest

from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.mounts import Mount, read, write
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig
from mvmnix.model import User, Verb
from mvmnix.plan.secret_reference import Secret, SecretTarget
from mvmnix.plan.share import ShareKind

MOUNTS = (
    Mount("share0", "/data", ShareKind.VIRTIOFS, read_only=False),
    Mount("share1", "/set", ShareKind.EROFS, read_only=True),
)
CONFIG = GuestConfig("mvm", 1, bytes(ENTROPY_BYTES), 0, User(1, 1), verbs=frozenset({Verb.EXEC}))


def test_config_says_them_between_secrets_and_command() -> None:
    with_both = replace(CONFIG, shares=MOUNTS, secrets=(Secret("it", SecretTarget.FILE, b"value"),))
    assert GuestConfig.parse(with_both.encode()) == with_both
    assert with_both.encode().index(b"value") < with_both.encode().index(b"share0")
    assert GuestConfig.parse(CONFIG.encode()).shares == ()


def test_its_bytes() -> None:
    out = Writer()
    write(out, MOUNTS[1:])
    expected = b"\0\0\0\1" + b"\0\0\0\6share1" + b"\0\0\0\4/set" + b"\2\1"
    assert out.done() == expected
    assert read(Reader(expected)) == MOUNTS[1:]


def listed(count: int = 1, tag: bytes = b"share0", place: bytes = b"/data", tail: bytes = b"\1\0") -> bytes:
    strings = b"".join(len(text).to_bytes(4) + text for text in (tag, place))
    return count.to_bytes(4) + strings + tail


@pytest.mark.parametrize(
    "data",
    [
        *(listed(0), listed(9), listed(2), listed(tag=b""), listed(tag=b"../x"), listed(tag=b"x" * 17)),
        *(listed(place=b"data"), listed(place=b"/"), listed(tail=b"\3\0"), listed(tail=b"\1\2"), listed(tail=b"\1")),
    ],
)
def test_anything_else_breaks_the_protocol(data: bytes) -> None:
    assert read(Reader(listed()))
    with pytest.raises(ChannelProtocolError):
        read(Reader(data))
