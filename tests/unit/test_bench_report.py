"""The report of `python -m bench`, from figures that were never measured."""

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

import bench.report
from bench.measurement import Figure, Spread, cells, in_time, in_turns_with
from bench.pairs import Pair, Times
from bench.report import NeedsMatplotlibError, Report, Section, about_this_machine, as_html, as_json, draw, write
from mvmnix.errors import MvmnixError
from tests.repository import ROOT

#: Markup of HTML's, of rich's and of matplotlib's.
EVIL = "</td><script>alert(1)</script> & [bold]$\\frac{$ \"'"
PAIR = in_turns_with("start", "raw QEMU", Pair(Times((2.0, 4.0, 3.0)), Times((1.0, 4.0, 1.0))), "ratio at most 2")
ALONE = in_time("answer", (0.001, 0.003, 0.002))
REPORT = Report(
    {"machine": f"a {EVIL}"},
    (
        Section("one", (PAIR, ALONE, Figure(EVIL, "MB", (1.0,), f"the other {EVIL}", (2.0,), EVIL)), 5.0),
        Section("two", (Figure("growth", "", (0.0,)),), 1.0),
        Section("three", (), 0.0, f"RuntimeError: {EVIL}"),
    ),
)


def test_a_figure_has_the_ratios_of_its_rounds() -> None:
    assert PAIR.ratios == (2.0, 1.0, 3.0)
    assert PAIR.differences == (1.0, 0.0, 2.0)
    assert cells(PAIR) == (
        *("start", "s", "3.000 (2.000 to 4.000)", "raw QEMU", "1.000 (1.000 to 4.000)"),
        *("+1.000 (+0.000 to +2.000)", "2.00 (1.00 to 3.00)", "ratio at most 2"),
    )
    assert cells(ALONE) == ("answer", "ms", "2.000 (1.000 to 3.000)", "", "", "", "", "")
    assert Figure("x", "", (1.0,), "nothing", (0.0,)).ratios == ()


def test_a_time_is_that_of_one_of_many() -> None:
    assert in_time("x", (2.0,), unit="ms", each=20).ours == (100.0,)
    assert in_turns_with("x", "y", Pair(Times((2.0,)), Times((4.0,))), unit="s", each=2).theirs == (2.0,)


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1,234"), (123.45, "123.5"), (12.345, "12.35"), (1.2345, "1.234"), (-0.5, "-0.500")]
)
def test_numbers_have_few_digits(value: float, shown: str) -> None:
    assert Spread.of((value,)).text() == shown


@pytest.mark.parametrize(
    ("ours", "compared", "theirs"), [((), "", ()), ((1.0,), "x", ()), ((1.0,), "", (1.0,)), ((1.0,), "x", (1.0, 2.0))]
)
def test_values_of_other_rounds_are_no_figure(
    ours: tuple[float, ...], compared: str, theirs: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="not of the same rounds"):
        Figure("x", "s", ours, compared, theirs)


def test_the_page_has_every_row_and_no_foreign_markup() -> None:
    page = as_html(REPORT)
    tables = page[: page.index("<h2>Pictures</h2>")]
    shown = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", tables)]
    figures = [figure for section in REPORT.sections for figure in section.figures]
    assert shown == [REPORT.about["machine"], *(cell for figure in figures for cell in cells(figure))]
    assert f"it failed: RuntimeError: {EVIL}" in unescape(tables)
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page), "it loads nothing"


def test_the_pictures_are_pictures() -> None:
    assert draw(REPORT, "png").startswith(b"\x89PNG\r\n\x1a\n")
    drawn = ElementTree.fromstring(draw(REPORT, "svg"))
    assert drawn.tag.endswith("}svg")
    assert draw(Report({}, ()), "png").startswith(b"\x89PNG"), "of nothing, too"


def test_programs_read_the_same(tmp_path: Path) -> None:
    write(REPORT, tmp_path / "new/report")
    assert {path.name for path in (tmp_path / "new/report").iterdir()} == {"report.json", "report.html", "report.png"}
    found = json.loads((tmp_path / "new/report/report.json").read_bytes())
    assert found == as_json(REPORT)
    first, second, _ = found["benchmarks"][0]["figures"]
    assert first["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": 3}
    assert (second["ratio"], second["asked"]) == (None, None)
    assert found["benchmarks"][2]["failure"].startswith("RuntimeError")


def failing() -> list[Figure]:
    raise MvmnixError("there is no QEMU")


def test_what_fails_is_told_and_the_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.report, "about_this_machine", lambda: {"machine": "none"})
    measured = {"broken": failing, "good": lambda: [ALONE]}
    assert bench.report.report(tmp_path / "out", measured, rounds=3) == ("broken",)
    found = json.loads((tmp_path / "out/report.json").read_bytes())
    assert found["about"] == {"machine": "none", "rounds": "3"}
    assert [(each["failure"], len(each["figures"])) for each in found["benchmarks"]] == [
        ("MvmnixError: there is no QEMU", 0),
        ("", 1),
    ]
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/out: report.json, report.html, report.png\n"
    assert "bench broken: MvmnixError: there is no QEMU" in said.err


def test_without_matplotlib_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NeedsMatplotlibError, match="make setup-tests"):
        bench.report.report(tmp_path / "out", {"x": failing}, rounds=1)
    assert not (tmp_path / "out").exists()


def test_machine_and_versions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = about_this_machine()
    assert re.fullmatch(r"[\d,]+ MiB", found["memory"])
    assert all(found.values())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert about_this_machine()["QEMU"] == "unknown"


def test_an_unknown_benchmark_is_no_word_of_the_command_line() -> None:
    argv = [sys.executable, "-m", "bench", "report", "--only", "nothing"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "invalid choice: 'nothing'" in done.stderr) == (2, True), done.stderr
