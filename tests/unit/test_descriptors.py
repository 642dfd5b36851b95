"""Tests for tests/descriptors.py."""

from pathlib import Path

from tests.descriptors import closed_at_the_end, open_below, until_the_end


def test_what_a_test_opened_is_closed_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with closed_at_the_end():
        until_the_end((tmp_path / "file").open())
        assert open_below(tmp_path) == {str(tmp_path / "file")}
    assert open_below(tmp_path) == set()
