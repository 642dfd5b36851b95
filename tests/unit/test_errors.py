"""Exit codes and words of failures."""

import json

import pytest

from mvmnix import errors
from mvmnix.errors import (
    GuestTimeoutError,
    MvmnixError,
    Reason,
    ReasonCode,
    RefusedError,
    UnreadableError,
    UsageError,
    refuse,
)
from mvmnix.provenance.bundle import envelope


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (MvmnixError, 125),
        (UsageError, 2),
        (UnreadableError, 2),
        (GuestTimeoutError, 124),
    ],
)
def test_exit_codes(kind: type[MvmnixError], code: int) -> None:
    error = kind("it failed", hint="do this")
    assert (error.exit_code, error.message, error.hint) == (code, "it failed", "do this")
    assert str(error) == "it failed. Next: do this"
    assert str(kind("it failed")) == "it failed"


def test_every_kind_of_failure_has_its_exit_code_tested() -> None:
    kinds = {it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, MvmnixError)}
    assert {it.exit_code for it in kinds} == {2, 124, 125, 126}


def test_a_refusal_carries_every_reason() -> None:
    reasons = [Reason(code, f"what {code}", "why", "hint") for code in (ReasonCode.UNSIGNED, ReasonCode.PLAN_EXPIRED)]
    refusal = RefusedError(*reasons)
    assert refusal.codes == (ReasonCode.UNSIGNED, ReasonCode.PLAN_EXPIRED)
    assert refusal.reasons == tuple(reasons)
    assert refusal.exit_code == 126
    assert str(refusal).splitlines() == [
        "what unsigned: refused [unsigned]: why. Next: hint",
        "what plan-expired: refused [plan-expired]: why. Next: hint",
    ]


def test_a_refusal_without_a_reason_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        RefusedError()


def test_refuse_makes_one_reason() -> None:
    assert refuse(ReasonCode.UNSIGNED, "a", "b", "c").reasons == (Reason(ReasonCode.UNSIGNED, "a", "b", "c"),)


def test_codes_are_words_for_machines() -> None:
    assert all(
        code.value == code.name.lower().replace("_", "-") or code is ReasonCode.COMMAND_LINE for code in ReasonCode
    )
    assert len({code.value for code in ReasonCode}) == len(ReasonCode)


def test_a_stranger_can_not_make_a_refusal_endless() -> None:
    """Neither by many mistakes nor by a long one; a code that comes late is told all the same, and nothing else cut."""
    many = [Reason(ReasonCode.UNSIGNED, "it", f"mistake {n}", "hint") for n in range(10_000)]
    late = [Reason(ReasonCode.PLAN_EXPIRED, "it", "late", "hint"), Reason(ReasonCode.PLAN_EXPIRED, "it", "x", "hint")]
    told = RefusedError(*many, *late).reasons
    assert told[:128] == tuple(many[:128])
    assert [(it.code, it.why) for it in told[128:]] == [
        (ReasonCode.PLAN_EXPIRED, "late"),
        (ReasonCode.UNSIGNED, "and 9873 reasons more"),
    ]
    assert RefusedError(*many[:128]).reasons == tuple(many[:128])
    long = refuse(ReasonCode.UNSIGNED, "a" * 2**20, "b" * 2**20, "c")
    assert len(str(long)) < 3000
    assert errors.bounded([]) == ()


@pytest.mark.parametrize("text", ["x" * 2**20, "x\n" * 2**20, "\n" * 2**20, "", "a\nb"])
def test_no_failure_is_long_and_none_loses_its_beginning_and_end(text: str) -> None:
    error = MvmnixError(f"first {text} last", hint=f"begin {text} end")
    assert len(str(error)) <= errors.MOST_CHARACTERS
    assert len(str(error).split("\n")) <= errors.MOST_LINES
    assert (error.message[:5], error.message[-4:], error.hint[:5], error.hint[-3:]) == ("first", "last", "begin", "end")
    error.hint += f"; {text} is where the log is"
    assert len(str(error)) <= errors.MOST_CHARACTERS
    assert error.hint.endswith("is where the log is")
    assert len(str(error).split("\n")) <= errors.MOST_LINES


@pytest.mark.parametrize("lines", range(1, 9))
@pytest.mark.parametrize("characters", range(9, 40, 6))
def test_what_is_clipped_has_the_size_that_it_may_have(lines: int, characters: int) -> None:
    for text in ("", "short", "a long line of many words, too long for it all", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj"):
        clipped = errors.clipped(text, lines=lines, characters=characters)
        assert len(clipped) <= characters
        assert clipped.count("\n") < lines
        if len(text) <= characters and text.count("\n") < lines:
            assert clipped == text


def test_a_bundle_with_as_many_mistakes_as_bytes() -> None:
    for text in (
        json.dumps({f"k{n}": n for n in range(50_000)} | {"mediaType": "x"}),
        json.dumps({"k" * 2**20: 1}),
        f'{{"{"k" * 2**20}": 1, "{"k" * 2**20}": 2}}',
    ):
        with pytest.raises(RefusedError) as caught:
            envelope.parse_foreign(text.encode())
        assert len(str(caught.value)) < 2**18
