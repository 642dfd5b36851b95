"""A context is opened where nobody else can change what it works with, with or without the command line."""

import tempfile
from pathlib import Path

import pytest

from mvmnix.api import open_context
from mvmnix.errors import ReasonCode, RefusedError
from tests.unit.cli.station import Station


def test_temporary_files_go_where_nobody_else_writes(station: Station, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o777)
    station.monkeypatch.setenv("TMPDIR", str(tmp_path / "all"))
    with pytest.raises(RefusedError) as refused, open_context():
        pass
    assert refused.value.codes == (ReasonCode.STATE_PERMISSIONS,)


def test_a_link_is_followed_once(station: Station, tmp_path: Path) -> None:
    """Also where the directory was looked up before the context was opened."""
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    station.monkeypatch.setenv("TMPDIR", str(tmp_path / "link"))
    station.monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    with open_context():
        assert tempfile.gettempdir() == str(tmp_path / "own")


def test_nothing_is_asked_or_shown_without_a_frontend(station: Station) -> None:
    with open_context() as context:
        context.initialize()
        assert not context.frontend.can_ask()
    assert sorted(path.name for path in (station.config / "keys").iterdir()) == [
        "builder.pem",
        "host.pem",
        "planner.pem",
    ]
    assert station.capfd.readouterr() == ("", "")
