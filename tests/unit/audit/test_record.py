"""Records: one spelling each, nothing in them that must not be written down, every malformed line refused."""

import json
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvmnix.audit.record import MAX_DIGESTS, MAX_LINE, MAX_REASONS, Record, RecordKind, spelled
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError
from mvmnix.plan.backend import Backend
from mvmnix.provenance.isolation import Isolation
from tests.unit.audit.world import NOON, record

DIGESTS = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
RECORDS = st.builds(
    Record,
    kind=st.sampled_from(list(RecordKind)),
    time=st.integers(0, 10**6).map(lambda seconds: NOON.replace(microsecond=0).fromtimestamp(seconds, NOON.tzinfo)),
    machine=st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True),
    plan=DIGESTS,
    policy=DIGESTS,
    digests=st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True), DIGESTS, min_size=1, max_size=4),
    reasons=st.lists(st.sampled_from(list(ReasonCode)), min_size=1).map(tuple),
    serials=st.none() | st.tuples(*[st.integers(0, 2**53 - 1)] * 4),
    backend=st.none() | st.sampled_from([backend.logged for backend in Backend]),
)
ENDS = st.builds(replace, RECORDS, kind=st.just(RecordKind.END), exit_code=st.integers(0, 255))
STARTS = st.builds(replace, RECORDS, kind=st.just(RecordKind.START), expires=st.just(NOON))
REFUSALS = st.builds(replace, RECORDS, kind=st.just(RecordKind.REFUSAL), count=st.integers(1, 2**53 - 1))


@given(RECORDS | ENDS | STARTS | REFUSALS)
def test_round_trip(original: Record) -> None:
    """Its bytes are the canonical form of the value that any reader of JSON finds in them."""
    assert Record.parse(original.line) == original
    assert strict.canonical(json.loads(original.line)) == original.line
    assert b"\n" not in original.line


def test_the_spelling_is_what_the_documentation_shows() -> None:
    end = Record(
        kind=RecordKind.END,
        time=NOON,
        machine="hello-1",
        plan=Digest("a" * 64),
        policy=Digest("b" * 64),
        digests={"receipt": Digest("c" * 64)},
        reasons=(ReasonCode.VERITY_MISMATCH,),
        exit_code=0,
    )
    assert end.line.decode() == (
        '{"digests":{"receipt":"' + "c" * 64 + '"},"exit":0,"kind":"end","machine":"hello-1","plan":"' + "a" * 64 + '",'
        '"policy":"' + "b" * 64 + '","reasons":["verity-mismatch"],"time":"2026-01-31T12:00:00Z"}'
    )


def test_numbers_are_spelled_as_they_are() -> None:
    refusal = Record(kind=RecordKind.REFUSAL, time=NOON, reasons=("unsigned",), serials=(1, 2, 3, 4), count=5)
    assert refusal.line.decode() == (
        '{"count":5,"kind":"refusal","reasons":["unsigned"],"serials":[1,2,3,4],"time":"2026-01-31T12:00:00Z"}'
    )
    assert Record.parse(refusal.line) == refusal


@pytest.mark.parametrize("backend", Backend)
def test_a_start_says_what_was_started(backend: Backend) -> None:
    """A container never without the word for what it isn't."""
    begin = Record(
        kind=RecordKind.START,
        time=NOON,
        machine="0123456789ab",
        plan=Digest.of(b"plan"),
        policy=Digest.of(b"policy"),
        backend=backend.logged,
    )
    assert Record.parse(begin.line) == begin
    assert (b"not a microVM" in begin.line) == (backend.isolation is not Isolation.MICROVM)


def test_the_longest_record_fits_its_line() -> None:
    longest = Record(
        kind=RecordKind.END,
        time=NOON,
        machine="m" * 64,
        plan=Digest("a" * 64),
        policy=Digest("a" * 64),
        digests={f"{number:d}".rjust(31, "a").rjust(32, "z"): Digest("a" * 64) for number in range(MAX_DIGESTS)},
        reasons=tuple(f"{number:d}".rjust(63, "a").rjust(64, "z") for number in range(MAX_REASONS)),
        exit_code=255,
        serials=(2**53 - 1,) * 4,
    )
    assert len(longest.line) < MAX_LINE


@pytest.mark.parametrize(("digests", "reasons", "fits"), [(16, 64, True), (17, 64, False), (16, 65, False)])
def test_how_many_digests_and_reasons_a_record_has(digests: int, reasons: int, *, fits: bool) -> None:
    fields: dict[str, Any] = {
        "digests": {f"d{number:02}": A for number in range(digests)},
        "reasons": tuple(f"r{number}" for number in range(reasons)),
    }
    expected = nullcontext() if fits else pytest.raises(ValueError, match="more than 16 digests or 64 reason codes")
    with expected:
        Record(kind=RecordKind.REFUSAL, time=NOON, **fields)
    line = strict.canonical(
        {
            "kind": "refusal",
            "time": "2026-01-31T12:00:00Z",
            "digests": {name: digest.hex for name, digest in fields["digests"].items()},
            "reasons": list(fields["reasons"]),
        }
    )
    with expected:
        spelled(line)


def test_a_reason_is_written_once() -> None:
    refusal = Record(kind=RecordKind.REFUSAL, time=NOON, reasons=(ReasonCode.UNSIGNED,) * 1000)
    assert refusal.reasons == ("unsigned",)


A = Digest("a" * 64)
GOOD: dict[str, Any] = {"kind": RecordKind.END, "time": NOON, "machine": "m", "plan": A, "policy": A, "exit_code": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"time": datetime(2026, 1, 1)},  # of no time zone
        {"kind": RecordKind.START, "exit_code": None, "expires": datetime(2026, 1, 1)},
        {"expires": NOON},  # an end
        {"kind": RecordKind.CREATION, "exit_code": None},  # without a digest
        {"kind": RecordKind.NEW_LOG, "exit_code": None},
        {"machine": None},
        {"plan": None},
        {"policy": None},
        {"machine": ""},
        {"machine": "UPPER"},
        {"machine": "a b"},
        {"machine": "../x"},
        {"machine": "-a"},
        {"machine": "m" * 65},
        {"exit_code": 256},
        {"exit_code": -1},
        {"kind": RecordKind.START},  # an exit code, but no end
        {"kind": RecordKind.REFUSAL, "exit_code": None},
        {"kind": RecordKind.RECOVERY, "exit_code": None},
        {"digests": {"A": Digest("a" * 64)}},
        {"digests": {"--token=secret": Digest("a" * 64)}},
        {"digests": {f"d{number}": Digest("a" * 64) for number in range(MAX_DIGESTS + 1)}},
        {"reasons": ("Not a code",)},
        {"serials": (0, 0, 0)},
        {"serials": (0, 0, 0, -1)},
        {"serials": (0, 0, 0, 2**53)},
        {"count": 1},  # an end
        {"backend": "QEMU"},
        {"backend": "container: not a microVM; rm -rf"},
        {"backend": ""},
        {"kind": RecordKind.REFUSAL, "exit_code": None, "reasons": ("x",), "count": 0},
        {"reasons": tuple(f"r{number}" for number in range(MAX_REASONS + 1))},
    ],
)
def test_records_that_are_none_are_refused(change: dict[str, Any]) -> None:
    Record(**GOOD)
    with pytest.raises(ValueError, match=r"record|machine|time zone|digests|reason codes|exit code|serial|backend"):
        Record(**GOOD | change)


LINE = record(1).line
A_HEX = b'":"' + b"a" * 64 + b'"'
END = replace(record(1), kind=RecordKind.END, exit_code=1).line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        LINE + b" ",
        b" " + LINE,
        LINE[:-1],
        LINE.replace(b'":', b'": ', 1),
        LINE.replace(b'"kind":"start"', b'"kind":"start","kind":"start"'),
        LINE.replace(b'"kind":"start"', b'"kind":"begin"'),
        LINE.replace(b'"kind":"start"', b'"argv":["ls"],"kind":"start"'),
        LINE.replace(b'"kind":"start"', b'"exit":1,"kind":"start"'),
        LINE.replace(b'"kind":"start"', b'"digests":{},"kind":"start"'),
        LINE.replace(b'"kind":"start"', b'"digests":{"x":"00"},"kind":"start"'),
        LINE.replace(b"start", b"\\u0073tart"),
        LINE.replace(b"2026-01-31T12:00:01Z", b"2026-01-31T12:00:01+00:00"),
        LINE.replace(b"2026-01-31T12:00:01Z", b"2026-02-31T12:00:01Z"),
        LINE.replace(b'"kind"', b'"expires":"2026-02-31T12:00:00Z","kind"'),
        LINE.replace(b'"kind"', b'"expires":null,"kind"'),
        LINE.replace(b'"time"', b'"expires":"2026-01-31T12:00:00Z","time"'),
        END.replace(b'"kind"', b'"expires":"2026-01-31T12:00:00Z","kind"'),
        LINE.replace(b"m1", b"m\\u0031"),
        LINE.replace(b'"plan"', b'"plam"'),
        LINE.replace(b'"time"', b'"serials":[0,0,0],"time"'),
        LINE.replace(b'"time"', b'"serials":[0,0,0,0,0],"time"'),
        LINE.replace(b'"time"', b'"serials":[0,0,0,"0"],"time"'),
        LINE.replace(b'"kind"', b'"count":1,"kind"'),
        *(
            LINE.replace(b'"kind"', b'"digests":{"%s' % names[:1] + A_HEX + b',"%s' % names[1:] + A_HEX + b'},"kind"')
            for names in (b"ba", b"aa")
        ),
        LINE.replace(
            b'"kind"', b'"digests":{%s},"kind"' % b",".join(b'"d%02d' % n + A_HEX for n in range(MAX_DIGESTS + 1))
        ),
        LINE.replace(b'"time"', b'"reasons":[%s],"time"' % b",".join(b'"r%d"' % n for n in range(MAX_REASONS + 1))),
        LINE.replace(b'"time"', b'"reasons":["a","a"],"time"'),
        LINE.replace(b'"time"', b'"serials":[0,0,0,00],"time"'),
        *(
            LINE.replace(b'"time"', field + b',"time"')
            for field in (
                *(b'"serials":null', b'"serials":[0,0,0,true]', b'"serials":[0,0,0,null]', b'"serials":[0,0,0,1.0]'),
                *(b'"serials":"0000"', b'"serials":{}', b'"reasons":"ab"', b'"reasons":[1]', b'"reasons":{"a":1}'),
                *(b'"reasons":[["a"]]', b'"reasons":null'),
            )
        ),
        *(LINE.replace(b'"kind"', field + b',"kind"') for field in (b'"backend":7', b'"backend":null', b'"exit":null')),
        *(LINE.replace(b'"m1"', value) for value in (b"null", b"7", b'["m1"]', b'{"m1":1}', b"true")),
        *(
            END.replace(b'"exit":1,', b'"exit":' + value + b",")
            for value in (b"true", b"1.0", b'"1"', b"[1]", b"01", b"1e0")
        ),
        *(END.replace(b'"end"', value) for value in (b"null", b"7", b'["end"]')),
        b"[" * 5000,
        b"9" * 5000,
    ],
)
def test_lines_that_are_none_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        spelled(line)
    with pytest.raises(MalformedError):
        Record.parse(line)


@given(st.integers(0, len(LINE) - 1), st.integers(1, 255))
def test_a_changed_byte_makes_another_record_or_none(position: int, change: int) -> None:
    line = bytearray(LINE)
    line[position] ^= change
    with suppress(MalformedError):
        assert Record.parse(bytes(line)) != record(1)


#: What may stand in the place of a field's value, by the field's name in JSON.
ODD: dict[str, list[Any]] = {
    "backend": ["qemu", "container: not a microVM", "container:", "", 7],
    "count": [0, 1, 2**53 - 1, 2**53, -1, "1", True],
    "digests": [{}, {"b": "a" * 64, "a": "b" * 64}, {"a": "A" * 64}, {"A": "a" * 64}, [],
                {f"d{number:02}": "a" * 64 for number in range(MAX_DIGESTS + 1)}],
    "exit": [0, 255, 256, 1.0, "1"],
    "expires": ["2024-02-29T23:59:59Z", "2026-02-29T23:59:59Z", "", None],
    "kind": [*map(str, RecordKind), "begin", ""],
    "machine": ["m", "-m", "m" * 64, "m" * 65, ""],
    "plan": ["a" * 64, "a" * 63, ""],
    "policy": ["a" * 64, "g" * 64],
    "reasons": [[], ["a"], ["a", "a"], ["b", "a"], ["A"], [f"r{number}" for number in range(MAX_REASONS + 1)]],
    "serials": [[0, 0, 0, 0], [0, 0, 0, 2**53 - 1], [0, 0, 0, 2**53], [0, 0, 0], [0] * 5, [0, 0, 0, -1], []],
    "time": ["2024-02-29T23:59:59Z", "2026-02-29T23:59:59Z", "2026-01-31T24:00:00Z", "2026-01-31T12:00:60Z", "x" * 20],
}  # fmt: skip


def by_the_book(line: bytes) -> Record:
    """What a reader of JSON and the constructor make of a line, if it is what they write of that again."""
    value = json.loads(line, parse_float=int)  # a record has integers alone: int("1.0") raises ValueError
    record = Record(
        kind=RecordKind(value["kind"]),
        time=strict.parse_time(value["time"]),
        digests={name: Digest(digest) for name, digest in value.get("digests", {}).items()},
        reasons=tuple(value.get("reasons", ())),
        exit_code=value.get("exit"),
        serials=None if "serials" not in value else tuple(value["serials"]),
        plan=Digest(value["plan"]) if "plan" in value else None,
        policy=Digest(value["policy"]) if "policy" in value else None,
        expires=strict.parse_time(value["expires"]) if "expires" in value else None,
        **{name: value[name] for name in ("machine", "count", "backend") if name in value},
    )
    if record.line != line:
        raise ValueError("another spelling")
    return record


CHANGES = st.lists(
    st.one_of(*(st.tuples(st.just(name), st.sampled_from(odd)) for name, odd in ODD.items())), max_size=2
)


@example(replace(record(0), kind=RecordKind.END, exit_code=0), [("exit", 1.0)], set())
@given(RECORDS | ENDS | STARTS | REFUSALS, CHANGES, st.sets(st.sampled_from(sorted(ODD.keys() - {"kind"})), max_size=1))
def test_a_line_is_read_as_by_the_book(original: Record, changed: list[tuple[str, Any]], gone: set[str]) -> None:
    """Whoever checks lines without making records of them takes neither more nor fewer."""
    value = json.loads(original.line) | dict(changed)
    line = strict.canonical({name: each for name, each in value.items() if name not in gone})
    try:
        expected = by_the_book(line)
    except (ValueError, LookupError, TypeError, AttributeError):
        with pytest.raises(MalformedError):
            spelled(line)
    else:
        assert Record.parse(line) == expected
        assert (spelled(line)["kind"], spelled(line)["machine"]) == (expected.kind, expected.machine)


def test_the_digests_of_a_record_stay_as_they_are() -> None:
    """The mapping that it was made of may change later; that of the record may not."""
    given = {"image": A}
    made = Record(kind=RecordKind.NEW_LOG, time=NOON, digests=given)
    given["more"] = A
    assert made.digests == {"image": A}
    with pytest.raises(TypeError):
        made.digests["more"] = A  # type: ignore[index]
