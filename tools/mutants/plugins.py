"""What a run of pytest is given: which tests, in which order, and where to write which of them executes which line."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType
from typing import Final

import pytest

#: Above what programs get by themselves: a fork that closes all has no other file under this number.
_DESCRIPTOR: Final = 700


class Selection:
    """Some tests first, and where `alone`, no others."""

    def __init__(self, first: Sequence[str], *, alone: bool) -> None:
        self._rank = {name: rank for rank, name in enumerate(first)}
        self._alone = alone

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._alone:
            items[:] = [it for it in items if it.nodeid in self._rank]
        items.sort(key=lambda it: self._rank.get(it.nodeid, len(self._rank)))


class Recorder:
    """Writes what is executed (threads and forks too), as lines of JSON; recording.py reads them.

    - `["line", test or fixture, module, line]`. What a fixture of a whole module or session executes is written as the
      fixture's, since one test executes it for all that use it; what a cache knows is forgotten before each test.
    - `["test", id, seconds, its fixtures]`, and at the end `["modules", names]`, those of other trees.
    """

    def __init__(self, tree: Path, file: Path) -> None:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTOR)
        os.close(opened)
        self._tree = f"{tree}/"
        self._by = ""

    def pytest_sessionstart(self) -> None:
        monitoring = sys.monitoring
        monitoring.use_tool_id(monitoring.COVERAGE_ID, "mutants")
        monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, self._line)
        monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        _forget()
        before = time.monotonic()
        self._start(item.nodeid)
        try:
            return (yield)
        finally:
            self._by = ""
            fixtures = [*getattr(item, "fixturenames", ())]
            self._write("test", item.nodeid, time.monotonic() - before, fixtures)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        before = self._by
        if fixturedef.scope != "function":
            self._start(fixturedef.argname)
        try:
            return (yield)
        finally:
            if self._by != before:
                self._start(before)

    def pytest_sessionfinish(self) -> None:
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
        self._write("modules", [name for name, file in files.items() if file and not file.startswith(self._tree)])

    def _start(self, by: str) -> None:
        self._by = by
        sys.monitoring.restart_events()

    def _line(self, code: CodeType, line: int) -> object:
        if self._by and code.co_filename.startswith(self._tree):
            self._write("line", self._by, code.co_filename.removeprefix(self._tree), line)
        return sys.monitoring.DISABLE

    def _write(self, *record: object) -> None:
        with suppress(OSError):  # a fork may have closed it
            os.write(self._descriptor, json.dumps(record).encode() + b"\n")


def _forget() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "mvmnix":
            for value in list(vars(module).values()):
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()
