"""Spans of time, moments and sizes: one parser of each, bounded, and every option that takes one has it."""

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given

from mvmnix.cli.commands.man import context_of
from mvmnix.cli.main import cli
from mvmnix.cli.options.quantities import Moment, Size, Span, parse_moment, parse_span
from tests.unit.strangers import TEXTS
from tools.site.command_line import commands

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two hours east of Greenwich."""
    monkeypatch.setitem(os.environ, "TZ", "XXX-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOON),
        ("10m", NOON - timedelta(minutes=10)),
        ("2 hours ago", NOON - timedelta(hours=2)),
        ("1 day 2 hours ago", NOON - timedelta(hours=26)),
        ("3 Weeks", NOON - timedelta(weeks=3)),
        ("1h30m", NOON - timedelta(minutes=90)),
        ("today", datetime(2026, 2, 28, 22, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 2, 27, 22, tzinfo=UTC)),
        ("2026-02-03", datetime(2026, 2, 2, 22, tzinfo=UTC)),
        ("2026-02-03 04:05", datetime(2026, 2, 3, 2, 5, tzinfo=UTC)),
        ("2026-02-03T04:05:06Z", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-02-03T04:05+01:00", datetime(2026, 2, 3, 3, 5, tzinfo=UTC)),
        ("1700000000", datetime.fromtimestamp(1_700_000_000, UTC)),
    ],
)
def test_a_moment(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOON) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "m", "ago", "tomorrow", "-5m", "10 m m", "10x", "1.5h", "٣m", "2026", "2026-13-01", "20260201"),
        *("9999999999d", "9999999999w 9999999999w", "1m" * 40, "2026-01-01" + "0" * 99, "0001-01-01T00:00+23:59"),
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="not a moment"):
        parse_moment(text, NOON)


@given(TEXTS)
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    for parse in (parse_span, lambda it: parse_moment(it, NOON)):
        try:
            parse(text)
        except ValueError as error:
            assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Span("s", 0, 100), "90", 90),
        (Span("s", 0, 100), "1m30s", 90),
        (Span("s", 0, 100), "2m", None),
        (Span("h", 1, 100), "24", 24),
        (Span("h", 1, 100), "2d", 48),
        (Span("h", 1, 100), "90m", None),
        (Span("h", 1, 100), "120m", 2),
        (Span("d", 0, 100), "12h", None),
        (Span("d", 0, 100), "0s", 0),
        (Span("h", 1, 100), "0", None),
        (Span("s", 0, 100), "-1", None),
        (Span("s", 0, 100), "1.5", None),
        (Size("m", 96, 1 << 20), "512", 512),
        (Size("m", 96, 1 << 20), "512M", 512),
        (Size("m", 96, 1 << 20), "2GiB", 2048),
        (Size("m", 96, 1 << 20), "1t", 1 << 20),
        (Size("m", 96, 1 << 20), "131072k", 128),
        (Size("m", 96, 1 << 20), "131073k", None),
        (Size("m", 96, 1 << 20), "95", None),
        (Size("k", 0, 1 << 20), "16m", 16384),
        (Size("k", 0, 1 << 20), "0", 0),
        (Size("k", 0, 1 << 20), "2g", None),
        (Size("k", 0, 1 << 20), "x", None),
    ],
)
def test_values(kind: Span | Size, text: str, value: int | None) -> None:
    try:
        assert kind.convert(text, None, None) == value
    except click.BadParameter as error:
        assert value is None
        assert repr(text) in error.message
        assert re.search(" from |write 90s|not in whole (hours|days)", error.message)


#: Metavariables of options whose value is a time or a size.
METAVARS = {"SECONDS": Span, "HOURS": Span, "DAYS": Span, "TIME": Moment, "MIB": Size, "KIB": Size}
#: Words in an option's name or field that say the same.
WORDS = {"timeout", "patience", "seconds", "since", "until", "memory", "scratch", "disk", "mib", "kib", "log", "age"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_option_for_a_time_or_a_size_has_the_one_parser(words: tuple[str, ...]) -> None:
    for option in context_of(cli, words).command.params:
        named = {part for name in (*option.opts, str(option.name)) for part in re.split("[-_]+", name)}
        if isinstance(option, click.Option) and not option.is_flag and option.opts[0] != "--lines":
            is_quantity = isinstance(option.type, Span | Moment | Size)
            assert is_quantity == (option.metavar in METAVARS), option.opts
            assert is_quantity or not named & WORDS, option.opts
            assert not is_quantity or isinstance(option.type, METAVARS[str(option.metavar)]), option.opts
