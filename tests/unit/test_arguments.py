"""Texts of strangers as arguments: whatever one of these types takes is none of what it promises not to be."""

import re
import subprocess

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mvmnix.arguments import LONGEST, AttributePath, Commit, GitRef, InsidePath, OneLine, Operand
from mvmnix.errors import ReasonCode, RefusedError
from tests.unit.strangers import HOSTILE, TEXTS

KINDS: tuple[type[OneLine], ...] = (OneLine, Operand, InsidePath, AttributePath, GitRef, Commit)


def code(kind: type[OneLine], text: str) -> ReasonCode | None:
    try:
        kind(text)
    except RefusedError as error:
        return error.codes[0]
    return None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((kind, text) for kind in KINDS for text in ("a\n", "a\0b", "a\rb", "\x7f", "\x85", "a\u2028b", "\udc80")),
        *((kind, "x" * (LONGEST + 1)) for kind in KINDS),
        *((kind, text) for kind in KINDS[1:] for text in ("", "-", "-x", "--help")),
        *((InsidePath, text) for text in ("/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", ".", "./a")),
        *(
            (GitRef, text)
            for text in ("a:b", "+a", "a b", "a..b", "a^", "a~1", "*", "a.lock", ".a", "b/.a", "@", "@{1}")
        ),
        *((AttributePath, text) for text in ("a.", ".a", "a..b", "a b", "a#b", "1a", "a^out", '"a"')),
        *((Commit, text) for text in ("HEAD", "0" * 39, "A" * 40, "0" * 63, f"{'0' * 40}^")),
    ],
)
def test_what_is_refused(kind: type[OneLine], text: str) -> None:
    assert code(kind, text) is ReasonCode.ARGUMENT_UNSAFE


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((OneLine, text) for text in ("", "-x", "a b", "é", "x" * LONGEST)),
        *((Operand, text) for text in ("a -x", "/etc/passwd", "é", "a\u00a0b")),
        *((InsidePath, text) for text in ("a", "a/b", "a/-b", "...", "..a/b..")),
        *((GitRef, text) for text in ("HEAD", "main", "refs/heads/a+b", "v1.0", "refs/tags/é")),
        *((AttributePath, text) for text in ("a", "a.b-c", "_x'")),
        *((Commit, text) for text in ("0" * 40, "f" * 64)),
    ],
)
def test_what_passes_stays_as_it_is(kind: type[OneLine], text: str) -> None:
    assert kind(text) == text


@given(TEXTS, st.sampled_from(KINDS))
@example("--upload-pack=x", GitRef)
def test_what_a_type_promises(text: str, kind: type[OneLine]) -> None:
    assume(code(kind, text) is None)
    assert text.splitlines() in ([text], [])
    assert "\0" not in text
    if kind is not OneLine:
        assert re.match(r"[^-]", text)
    if kind is InsidePath:
        assert not {"", ".", ".."} & set(text.split("/"))


@given(TEXTS)
def test_a_ref_is_one_for_git_too(text: str) -> None:
    """What passes here as a name of a branch passes there; git refuses what would be a refspec or an option."""
    assume(code(GitRef, f"refs/heads/{text}") is None)
    done = subprocess.run(["git", "check-ref-format", f"refs/heads/{text}"], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_a_refusal_quotes_no_control_character(text: str) -> None:
    for kind in KINDS:
        try:
            kind(text)
        except RefusedError as error:
            assert error.message.isprintable()
