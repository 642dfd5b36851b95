"""Programs of mvm's own that outlive their starter, as rows of test_environment.py: what is run once traps are set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.api import launchers, unasked_templates
from mvmnix.api.admission import open_templates
from mvmnix.api.context import Context
from mvmnix.api.unasked_templates import find_obstacle
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.system.procfs import boot_id
from mvmnix.system.roots import Roots
from tests.hostile.traps import Traps
from tests.unit.launcher.requests import ask, handed
from tests.unit.provenance.world import new_world

type Act = Callable[[], object]


@contextmanager
def launched(path: Path, _: Traps) -> Iterator[Act]:
    """Both kinds of launcher, with what each forks; a request comes as far as the gate, which finds no policy."""
    with Roots(**{name: str(path / name / "mvmnix") for name in ("state", "cache", "config", "data")}) as roots:

        def act() -> None:
            for private in (False, True):
                with handed(roots) as found, pytest.raises(RefusedError) as refused:
                    ask(launchers.reach(roots, private=private), found)
                assert set(refused.value.codes) == {ReasonCode.POLICY_MISSING}

        yield act
        assert len(list(launchers.stop_launchers(roots))) == 1


@contextmanager
def template_made(path: Path, _: Traps) -> Iterator[Act]:
    """The program that makes a template unasked, of an image that isn't there: what it leaves says so."""
    with Roots(**{name: str(path / name / "mvmnix") for name in ("state", "cache", "config", "data")}) as roots:
        with Context(roots) as context:
            context.initialize()
        (path / "world").mkdir()
        plan = new_world(path / "world").plan()
        key = Digest.of(b"a key")

        def act() -> None:
            with Context(roots) as context:
                if obstacle := find_obstacle(context):  # a host whose control groups limit the tests
                    pytest.skip(obstacle)
                unasked_templates._start_maker(context, key, plan).wait()
                (obstacle,) = open_templates(context).cold_starts(boot_id()).obstacles
                assert "no kept image has" in obstacle

        yield act
