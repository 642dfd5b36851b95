"""What pip prints is parsed as it stands: the report into wheels with true edges, complaints into failures."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.fetch.registries import Failure, FailureKind
from mvmnix.builder.pins import pypi
from mvmnix.builder.pins.pypi import Pip, parse_report, requirements
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.model import Source
from tests.unit.builder.pins.small_index import INDEXES, SETTINGS

CFFI = Source("mirror://pypi/cffi-2.1.1-cp313-cp313-manylinux_2_17_x86_64.whl", "cffi.whl", Digest("0" * 64))
RICH = Source("mirror://pypi/rich-15.0.0-py3-none-any.whl", "rich.whl", Digest("1" * 64))


def entry(name: str, *requires: str) -> dict[str, object]:
    filename = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    return {
        "download_info": {
            "url": f"https://files.test/packages/ab/{filename}#sha256=1",
            "archive_info": {"hashes": {"sha256": Digest.of(name.encode()).hex}},
        },
        "metadata": {"name": name, "version": "1.0", **({"requires_dist": list(requires)} if requires else {})},
        "requested": False,
    }


def test_the_report_gives_wheels_with_the_edges_that_count_on_the_pinned_python() -> None:
    report = {
        "version": "1",
        "install": [
            entry(
                "Pydantic",
                'email-validator>=2; extra == "email"',
                'tzdata; extra == "timezone" and platform_system == "Windows"',
                "Typing.Extensions>=4",
            ),
            entry("email-validator"),
            entry("tzdata"),
            entry("rekor-types", "pydantic[email]", 'typing-extensions; python_version < "3.13"'),
            entry("typing_extensions", 'old; sys_platform == "linux"'),
        ],
    }
    wheels = parse_report(json.dumps(report).encode(), ["rekor-types"])
    assert {wheel.name: wheel.depends for wheel in wheels} == {
        "email-validator": (),
        "pydantic": ("email-validator", "typing-extensions"),
        "rekor-types": ("pydantic",),
        "typing-extensions": (),
        "tzdata": (),
    }
    assert [wheel.name for wheel in wheels] == sorted(wheel.name for wheel in wheels)
    first = wheels[0]
    assert (first.filename, first.version) == ("email_validator-1.0-py3-none-any.whl", "1.0")
    assert first.source.uri == "mirror://pypi/email_validator-1.0-py3-none-any.whl"
    assert first.digest == Digest.of(b"email-validator")


def test_an_extra_that_nobody_asks_for_makes_no_edge() -> None:
    report = {"install": [entry("pydantic", 'email-validator; extra == "email"'), entry("email-validator")]}
    wheels = parse_report(json.dumps(report).encode(), ["pydantic", "email-validator"])
    assert all(wheel.depends == () for wheel in wheels)
    wheels = parse_report(json.dumps(report).encode(), ["pydantic[email]"])
    assert wheels[1].depends == ("email-validator",)


@pytest.mark.parametrize("report", [b"", b"[]", b'{"install": [1]}', b'{"install": [{"metadata": {}}]}'])
def test_a_strange_report_is_an_error(report: bytes) -> None:
    with pytest.raises(MvmnixError, match="report"):
        parse_report(report, [])


def test_a_report_of_a_source_archive_is_an_error() -> None:
    strange = json.dumps({"install": [entry("odd")]}).replace("-py3-none-any.whl", ".tar.gz").encode()
    with pytest.raises(MvmnixError, match="report"):
        parse_report(strange, ["odd"])


def test_requirements_are_read_from_the_project() -> None:
    assert requirements(b'[project]\ndependencies = ["rich>=14", "click >= 8.2"]') == ("click>=8.2", "rich>=14")
    for broken in (b"", b"[project", b'[project]\ndependencies = ["-r /etc/passwd"]', b"\xff"):
        with pytest.raises(UsageError):
            requirements(broken)


def test_a_download_is_by_name_version_and_hash_without_anything_built() -> None:
    command = INDEXES.command([CFFI, RICH])
    assert command.input == (f"cffi==2.1.1 --hash=sha256:{'0' * 64}\nrich==15.0.0 --hash=sha256:{'1' * 64}\n").encode()
    for word in ("--no-deps", "--require-hashes", "--only-binary"):
        assert word in command.arguments
    assert INDEXES.file(RICH) == "rich-15.0.0-py3-none-any.whl"


def test_what_pip_is_given_is_on_no_command_line() -> None:
    for command in (INDEXES.command([RICH]), INDEXES.choose(["rich>=14"])):
        assert "hush" not in " ".join(command.arguments) + repr(command)
        assert command.environment == SETTINGS.environment
        assert dict(command.files) == {"/pip/x": Path("/x"), "/packages/pip": Path("/p/pip")}
    assert (INDEXES.choose(["rich>=14"]).input, "rich>=14" in INDEXES.choose(["rich>=14"]).arguments) == (
        b"rich>=14\n",
        False,
    )


@pytest.mark.parametrize(
    ("stderr", "trouble"),
    [
        ("ERROR: Could not find a version\nERROR: No matching distribution found for rich==15.0.0\n", FailureKind.GONE),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE\n    Expected\n", FailureKind.WRONG),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken\nERROR: No matching distribution",
            FailureKind.FAILED,
        ),
        ("ERROR: disk quota exceeded", FailureKind.FAILED),
        ("", FailureKind.FAILED),
    ],
)
def test_failures_of_one(stderr: str, trouble: FailureKind) -> None:
    assert INDEXES.failures([RICH], stderr)[RICH].trouble is trouble


def test_a_batch_has_no_culprit_unless_the_index_is_out_of_reach() -> None:
    assert INDEXES.failures([RICH, CFFI], "ERROR: No matching distribution found") == {}
    line = "WARNING: Retrying (Retry(total=4)) after connection broken"
    assert INDEXES.failures([RICH, CFFI], line) == dict.fromkeys([RICH, CFFI], Failure(FailureKind.FAILED, line))


def test_wheels_are_repaired_together() -> None:
    assert Pip().describe(CFFI) == ("cffi", "2.1.1")
    assert Pip().repair([CFFI]) == "mvm pin python"


@pytest.mark.parametrize(
    "filename",
    [
        "_e-1.0-py3-none-any.whl",  # its canonical name is "-e": an option of a requirements file
        "_r-1.0-py3-none-any.whl",
        ".-1.0-py3-none-any.whl",
        "e_-1.0-py3-none-any.whl",
        "a/../b-1.0-py3-none-any.whl",
        "../b-1.0-py3-none-any.whl",
        "b-1.0-py3-none-any.whl#b",
        "b-1.0-py3-none-any.whl\n-e .",
        "b -1.0-py3-none-any.whl",
        "é-1.0-py3-none-any.whl",
        "b-x-py3-none-any.whl",
        "b-1.0.tar.gz",
        "b-1.0-py3-none-any.whl.exe",
        "",
    ],
)
def test_what_is_no_plain_wheel_name_is_no_source(filename: str) -> None:
    for use in (Pip().describe, INDEXES.file, lambda one: INDEXES.command([one])):
        with pytest.raises(ValueError, match=r"wheel|address of a source"):
            use(Source(f"mirror://pypi/{filename}", "x.whl", Digest("0" * 64)))


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[\w.-]{1,6}-[\w.!+-]{1,6}-py3-none-any\.whl", fullmatch=True)))
def test_a_line_for_pip_is_a_name_a_version_and_a_hash_or_nothing(filename: str) -> None:
    try:
        command = INDEXES.command([Source(f"mirror://pypi/{filename}", "x.whl", Digest("0" * 64))])
    except ValueError:
        return
    line = rb"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.!+]* --hash=sha256:0{64}\n"
    assert re.fullmatch(line, command.input)


def test_pip_is_isolated_from_the_directory_and_the_users_packages() -> None:
    command = INDEXES.command([RICH])
    assert command.program.paths[0] == "/usr/bin/python3.13"
    assert command.arguments[:2] == ("-I", "-c")


def test_pip_is_found_where_pipx_shares_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, shared = tmp_path / "venv", tmp_path / "shared"
    for name in (own / "socks.py", shared / "pip/__init__.py", shared / "socks.py"):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()
    (own / "pipx_shared.pth").write_text(f"import sys\n{shared}\n")
    (shared / "more.pth").write_text("/elsewhere\n")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(own)])
    assert pypi._packages() == {"/packages/pip": shared / "pip", "/packages/socks.py": own / "socks.py"}


def test_a_pip_of_the_working_directory_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path / "venv")])
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/relative.pth").write_text("..\n")
    with pytest.raises(MvmnixError, match="has no pip"):
        pypi._packages()
