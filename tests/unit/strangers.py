"""Texts that a stranger may have written, for property tests: hypothesis' own, and those that break programs."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from mvmnix.errors import RefusedError

#: What has been an option, a second line, a path elsewhere, a format or an end of one somewhere.
HOSTILE = (
    *("", "-", "--", "-x", "--help", "--option", "-oProxyCommand=id", "--upload-pack=id", "-e .", "_e-1.0", "@file"),
    *("a\nb", "a\n--hash=sha256:0", "a\r\nb", "a\0b", "a\x1b[2J", "\u2028", "\u202e", "\udcff", "é", "\ufeff-x"),
    *("..", "../../etc/passwd", "/etc/passwd", "a/../b", "./a", "a//b", "~", "~root", "a/", "\\"),
    *("a,b", "a=b", "a;b", "a|b", "a b", "a\tb", "$(id)", "`id`", "${IFS}", "*", "?", "[a]", "{a,b}", "%s%n", "'", '"'),
    *("a#b", "a?dir=b", "a&narHash=b", "a^out", "a^*", "a%2F..", "path:/", "git+ext::sh -c id", "ext::id", "file:///"),
    *(
        "a:b",
        "+a",
        "a..b",
        "HEAD^{tree}",
        "refs/heads/*:refs/heads/*",
        "init=/bin/sh",
        "quiet -- x",
        "fd=3",
        "x,script=y",
    ),
)
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.builds("{}{}".format, st.sampled_from(HOSTILE), st.text(max_size=9)),
)


def accepted[T](make: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """What is made of a stranger's texts; a refusal is as good, and ends the example."""
    try:
        return make(*arguments, **named)
    except (RefusedError, ValueError):
        assume(False)
        raise


def places(argv: Sequence[str], text: str) -> list[int]:
    """The elements of an argument list that have this text in them."""
    return [index for index, word in enumerate(argv) if text in word]


def shape(argv: Sequence[str], text: str, stand_in: str) -> tuple[str, ...]:
    """The argument list with a harmless text in the place of a stranger's."""
    return tuple(word.replace(text, stand_in) if text else word for word in argv)
