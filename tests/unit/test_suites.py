"""The suites of the Makefile: each is told where its tests are, and no marked test is anywhere else."""

import re

import pytest

from tests.repository import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def marked(name: str) -> list[str]:
    """The test files that have the marker, by their path in the repository."""
    files = (ROOT / "tests").rglob("test_*.py")
    return [str(path.relative_to(ROOT)) for path in files if f"pytest.mark.{name}" in path.read_text()]


def integration() -> list[str]:
    (listed,) = re.findall(r"^INTEGRATION := (.*)$", MAKEFILE, re.MULTILINE)
    return str(listed).split()


@pytest.mark.parametrize(
    ("name", "places"),
    [("vm", ["tests/builds", "tests/vm", "tests/hostile"]), ("systemd", ["tests/vm"]), ("integration", integration())],
)
def test_marked_tests_are_where_their_suite_looks(name: str, places: list[str]) -> None:
    found = [path for path in marked(name) if path != "tests/unit/test_suites.py"]
    assert found
    assert [path for path in found if not any(f"{path}/".startswith(f"{place}/") for place in places)] == []


def test_the_suites_look_there() -> None:
    assert "$(PYTEST) tests/builds\n" in MAKEFILE
    assert "-m 'vm and not systemd' tests/vm\n" in MAKEFILE
    assert "-m vm tests/hostile\n" in MAKEFILE
    assert "-m 'integration and not vm' $(INTEGRATION)\n" in MAKEFILE
    assert "-m 'not vm and not integration'\n" in MAKEFILE


def test_all_of_them_run_at_once() -> None:
    ((jobs, listed),) = re.findall(
        r"-j(\d+) --keep-going --output-sync=line ((?!test-as-user).*)$", MAKEFILE, re.MULTILINE
    )
    suites = str(listed).split()
    assert suites == ["test-builds", "test-vm", "test-hostile", "test-integration", "test-unit"]
    assert len(suites) == int(jobs), "none of them waits for another one's end"
    assert all(re.search(rf"^{suite}: ", MAKEFILE, re.MULTILINE) for suite in suites)


def test_soak_looks_wherever_less_is_taken() -> None:
    (listed,) = re.findall(r"^SOAK := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    files = [path for suite in ("builds", "vm", "hostile") for path in (ROOT / "tests" / suite).rglob("test_*.py")]
    less = {
        path
        for path in files
        if re.search(r"MVMNIX_SOAK_|mark\.in_turn|[ (]sample\(|takes_everything\(", path.read_text())
    }
    assert {str(path.relative_to(ROOT)) for path in less} == set(str(listed).replace("\\", "").split())
