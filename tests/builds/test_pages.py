"""Each tutorial and each page of how-to does what it says when it is typed, in a clone, as a plain user."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import World
from tests.pages import blocks, run_page
from tests.repository import ROOT

pytestmark = pytest.mark.vm

PAGES = sorted(path for folder in ("tutorial", "how-to") for path in (ROOT / "docs" / folder).glob("*.md"))
#: Pages that take more than a clone, and the test that types each; one has nothing to type.
ELSEWHERE = {"use-oci-images": "tests/builds/test_oci.py", "troubleshoot": None}


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in ELSEWHERE], ids=lambda path: path.stem)
def test_a_page_does_what_it_says(python_user: World, tmp_path: Path, page: Path) -> None:
    subprocess.run(["cp", "-a", python_user.tree, tmp_path / "mvmnix"], check=True)
    run_page(page.read_text(), tmp_path / "mvmnix", python_user.home.environment)


def test_the_others_are_typed_elsewhere() -> None:
    for name, test in ELSEWHERE.items():
        page = (ROOT / f"docs/how-to/{name}.md").read_text()
        assert bool([*blocks(page)]) == bool(test)
        assert test is None or f"how-to/{name}.md" in (ROOT / test).read_text()
