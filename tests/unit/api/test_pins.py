"""A lock of pins is put in its place as a whole, and no link of the checkout leads out of it."""

from pathlib import Path

import pytest

from mvmnix.api import pins
from mvmnix.errors import UsageError


def test_a_lock_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new/debian/lock.json"
    for data in (b"one", b"one", b"two"):
        assert pins._written(path, data, ()).path == path
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("link", ["modules", "modules/debian", "modules/debian/lock.json"])
def test_no_link_on_the_way_is_followed(tmp_path: Path, link: str) -> None:
    (tmp_path / "home/debian").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "home")
    with pytest.raises(UsageError, match="symbolic link"):
        pins._written(tmp_path / "modules/debian/lock.json", b"data", ())
    assert list((tmp_path / "home").rglob("*")) == [tmp_path / "home/debian"]
