"""The bundles of a file, one a line: not more than may be verified."""

import pytest

from mvmnix.images.file_names import MOST_BUNDLES, bundles_of

LINES = [b"%d" % number for number in range(MOST_BUNDLES)]


def test_each_is_there_once() -> None:
    assert bundles_of(b"a\nb\na") == (b"a", b"b")


def test_as_many_as_may_be_and_one_more() -> None:
    assert bundles_of(b"\n".join(LINES)) == tuple(LINES)
    with pytest.raises(ValueError, match="more than 64 lines"):
        bundles_of(b"\n".join([*LINES, b"x"]))
