"""docs/reference/control.md against the code: each message has a row, with its fields and the bounds that hold."""

import dataclasses
import re

import pytest

from mvmnix.launch.control import codec, failure, messages, pool_messages, start_messages
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.own_directories import PROBE
from mvmnix.launch.control.pool_messages import PoolStatus
from mvmnix.launch.control.start_messages import MOST_DESCRIPTORS, TerminalSize
from mvmnix.machines import control_socket
from tests.repository import ROOT

PAGE = (ROOT / "docs/reference/control.md").read_text()
ROWS = dict(re.findall(r"(?m)^\| `(\w+)` \|([^|]*)\|", PAGE))
MODULES = (messages, start_messages, pool_messages, failure)
MESSAGES = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    }
    - {TerminalSize, PoolStatus},
    key=codec.name_of,
)


def test_each_message_has_a_row_and_each_row_a_message() -> None:
    assert ROWS.keys() == set(map(codec.name_of, MESSAGES))


@pytest.mark.parametrize("kind", MESSAGES, ids=codec.name_of)
def test_a_row_names_the_fields_of_its_message(kind: type) -> None:
    own = {codec.field_name(each.name) for each in dataclasses.fields(kind)}
    if kind is Failure:  # the second row refers to the first
        assert own <= set(re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\| `failure` \|.*$", PAGE))))
        return
    named = set(re.findall(r"`(\w+)`", ROWS[codec.name_of(kind)]))
    within = {start_messages.StartRequest: TerminalSize, pool_messages.PoolsKept: PoolStatus}.get(kind)
    parts = {codec.field_name(each.name) for each in (() if within is None else dataclasses.fields(within))}
    parts |= {"end", "step", "code", "outOfMemory"} if kind is messages.Exited else set()
    parts |= {"failure", "exited"} & named
    assert named == own | parts


@pytest.mark.parametrize(
    "words",
    [
        f"which is {codec.VERSION}",
        f"{codec.LIMIT:,} bytes",
        f"at most {MOST_DESCRIPTORS} descriptors to a launcher, {len(messages.Stream)} to a supervisor",
        f"`text`: {start_messages.LONGEST_TEXT:,} characters",
        f"{control_socket.MOST_CALLERS} callers",
        f"`{PROBE}`",
    ],
)
def test_bounds_are_those_of_the_code(words: str) -> None:
    assert words in re.sub(r"\s+", " ", PAGE)
