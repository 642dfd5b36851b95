"""A template's key is another one whenever what it depends on is; its record is read back as it was written."""

import json
from dataclasses import fields, replace

import pytest

from mvmnix.digest import Digest
from mvmnix.formats.strict import MalformedError
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.templates.record import LIMIT, TemplateKey, TemplateRecord
from tests.unit.launch.templates.kept import KEY, record_of

OTHERS: dict[str, object] = {
    "manifest": Digest.of(b"another"),
    "vcpus": 3,
    "memory_mib": 97,
    "command_line": "console=ttyS1",
    "network": True,
    "images": 1,
    "data": True,
    "machine": "q35",
    "processor": "qemu64",
    "protocol": KEY.protocol + 1,
    "boot": "12345678-9abc-def0-1234-56789abcdef1",
    "programs": KEY.programs[:1],
}


def test_the_key_is_of_all_that_a_template_depends_on() -> None:
    assert set(OTHERS) == {field.name for field in fields(TemplateKey)}
    found = {replace(KEY, **{name: other}).digest for name, other in OTHERS.items()}  # type: ignore[arg-type]
    assert len(found | {KEY.digest}) == len(OTHERS) + 1
    assert replace(KEY).digest == KEY.digest


@pytest.mark.parametrize("at", range(6))
def test_a_program_is_another_one_by_any_part_of_its_identity(at: int) -> None:
    first, *rest = KEY.programs
    changed = (*first[:at], "another", *first[at + 1 :])
    assert replace(KEY, programs=(changed, *rest)).digest != KEY.digest


@pytest.mark.parametrize(
    "record",
    [record_of(), record_of(image="x" * 256), record_of(hello=Hello(KEY.protocol, "", "")), record_of(state_bytes=1)],
)
def test_round_trip(record: TemplateRecord) -> None:
    data = record.to_bytes()
    assert TemplateRecord.from_bytes(data) == record
    assert len(data) < LIMIT


NAMES = tuple(json.loads(record_of().to_bytes()))


@pytest.mark.parametrize("name", NAMES)
def test_none_of_it_may_be_missing_or_of_another_kind(name: str) -> None:
    whole = json.loads(record_of().to_bytes())
    others: tuple[object, ...] = (None, [], 1 if isinstance(whole[name], bool) else True, -1, "\0")
    for value in others:
        with pytest.raises(MalformedError):
            TemplateRecord.from_bytes(json.dumps(whole | {name: value}).encode())
    del whole[name]
    with pytest.raises(MalformedError):
        TemplateRecord.from_bytes(json.dumps(whole).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"vcpus": 0},
        {"memoryMiB": 1},
        {"shareImages": 9},
        {"shareImages": -1},
        {"memoryMiB": 1 << 40},
        {"tscKHz": 1},
        {"stateBytes": 0},
        {"stateBytes": (16 << 20) + 1},
        {"machine": "0123456789AB"},
        {"boot": "another boot"},
        {"image": "x" * 257},
        {"agent": "x" * 1025},
        {"surplus": 1},
    ],
)
def test_what_is_out_of_bounds(change: dict[str, object]) -> None:
    data = json.dumps(json.loads(record_of().to_bytes()) | change).encode()
    with pytest.raises(MalformedError):
        TemplateRecord.from_bytes(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(MalformedError):
        TemplateRecord.from_bytes(data)
