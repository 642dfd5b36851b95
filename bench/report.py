"""All figures of a run with machine and versions: as report.json, as report.html, and drawn, as report.png.

Text comes from the benchmarks and from the machine; it is escaped in HTML, and is no markup of matplotlib's.
"""

import io
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import jinja2
from markupsafe import Markup

from bench.measurement import HEADINGS, Figure, Spread, cells
from mvmnix.errors import MvmnixError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HERE: Final = Path(__file__).parent
#: Inches: the width of the picture, the height of a row, that of a panel without rows.
_WIDTH, _ROW, _PANEL = 15.0, 0.3, 1.1
#: Characters of a label; the table has all of it.
_LABEL: Final = 90
#: What a benchmark ends with that can't be run here, or finds something broken.
_FAILURES: Final = (
    MvmnixError,
    OSError,
    RuntimeError,
    ImportError,
    LookupError,
    ValueError,
    subprocess.SubprocessError,
)


class NeedsMatplotlibError(Exception):
    """The pictures can't be drawn; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark found, or why it failed; seconds that it took."""

    name: str
    figures: tuple[Figure, ...]
    seconds: float
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run. `about` has machine and versions, by what they are called."""

    about: Mapping[str, str]
    sections: tuple[Section, ...]


def report(out: Path, measured: Mapping[str, Callable[[], list[Figure]]], *, rounds: int) -> tuple[str, ...]:
    """Run benchmarks, write what they found to a directory, and name it; returns those that failed.

    Raises NeedsMatplotlibError before anything is measured.
    """
    find_matplotlib()
    about = about_this_machine() | {"rounds": str(rounds)}
    sections = tuple(_section(name, measure) for name, measure in measured.items())
    write(Report(about, sections), out)
    print(f"{out}: report.json, report.html, report.png")
    return tuple(section.name for section in sections if section.failure)


def _section(name: str, measure: Callable[[], list[Figure]]) -> Section:
    print(f"bench {name} …", file=sys.stderr, flush=True)
    begin = time.monotonic()
    try:
        found, failure = tuple(measure()), ""
    except _FAILURES as error:
        found, failure = (), f"{type(error).__name__}: {error}"
        print(f"bench {name}: {failure}", file=sys.stderr)
    return Section(name, found, time.monotonic() - begin, failure)


def write(report: Report, out: Path) -> None:
    """Write the three files of a report, in the place of older ones."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    (out / "report.html").write_text(as_html(report), encoding="utf-8")
    (out / "report.png").write_bytes(draw(report, "png"))


# -- what it says of the machine


def about_this_machine() -> dict[str, str]:
    """Machine, kernel and versions. What can't be found out is called unknown."""
    cpuinfo, meminfo = (Path(f"/proc/{name}").read_text(encoding="utf-8") for name in ("cpuinfo", "meminfo"))
    mib = int(_first(r"^MemTotal: +([0-9]+) kB$", meminfo) or 0) // 1024
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _first(r"^model name\s*: (.*)$", cpuinfo) or "unknown",
        "processors": str(os.cpu_count()),
        "memory": f"{mib:,} MiB",
        "load when it began": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "KVM": "may be opened" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "may not be opened",
        "mvmnix": metadata.version("mvmnix"),
        "commit": _said("git", "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=12"),
        "Python": platform.python_version(),
        "QEMU": _said("qemu-system-x86_64", "--version"),
    }


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _said(*argv: str) -> str:
    """The first line that a program prints."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter(done.stdout.splitlines()), "unknown")


# -- the forms it has


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs; each number is one that was measured or is computed from such."""
    return {"about": dict(report.about), "benchmarks": [_section_json(section) for section in report.sections]}


def _section_json(section: Section) -> dict[str, Any]:
    figures = [_figure_json(figure) for figure in section.figures]
    return {"name": section.name, "seconds": section.seconds, "failure": section.failure, "figures": figures}


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "what": figure.what,
        "unit": figure.unit,
        "ours": _spread_json(figure.ours),
        "compared": figure.compared or None,
        "theirs": _spread_json(figure.theirs),
        "difference": _spread_json(figure.differences),
        "ratio": _spread_json(figure.ratios),
        "asked": figure.asked or None,
    }


def _spread_json(values: tuple[float, ...]) -> dict[str, float] | None:
    if not values:
        return None
    found = Spread.of(values)
    return {"median": found.median, "min": found.least, "max": found.most, "rounds": len(values)}


def as_html(report: Report) -> str:
    """The report as one page that loads nothing: tables, and the picture as SVG."""
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    picture = draw(report, "svg").decode()
    return environment.get_template("report.html").render(
        about=report.about,
        headings=HEADINGS,
        sections=[(section, [cells(figure) for figure in section.figures]) for section in report.sections],
        picture=Markup(picture[picture.index("<svg") :]),
    )


def find_matplotlib() -> None:
    """Raise NeedsMatplotlibError where there is none."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise NeedsMatplotlibError("a report takes matplotlib: `make setup-tests` installs it") from error


def draw(report: Report, form: Literal["png", "svg"]) -> bytes:
    """Draw a panel of ratios and one for each unit: medians, and lines from the least to the largest value."""
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415 - tests' and benchmarks' own, and slow to load

    panels = [panel for panel in _panels(report) if panel.rows]
    heights = [_PANEL + _ROW * len(panel.rows) for panel in panels] or [_PANEL]
    picture = Picture(figsize=(_WIDTH, sum(heights)), layout="constrained")
    axes = picture.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, ax in zip(panels, axes, strict=False):
        _draw_panel(panel, ax)
    buffer = io.BytesIO()
    picture.savefig(buffer, format=form, dpi=100)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Panel:
    """What one panel shows: for each row a label, our values and those that they are compared with."""

    title: str
    rows: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]


def _panels(report: Report) -> Iterator[_Panel]:
    found = [(f"{section.name}: {figure.what}", figure) for section in report.sections for figure in section.figures]
    ratios = tuple((f"{name} / {figure.compared}", figure.ratios, ()) for name, figure in found if figure.ratios)
    yield _Panel("mvm's ratio to what it is compared with", ratios)
    for unit in dict.fromkeys(figure.unit for _, figure in found):
        rows = tuple((name, figure.ours, figure.theirs) for name, figure in found if figure.unit == unit)
        yield _Panel(f"{unit or 'number'}: blue is mvm, orange what it is compared with", rows)


def _draw_panel(panel: _Panel, ax: "Axes") -> None:
    for at, (_, ours, theirs) in enumerate(panel.rows):
        for values, color, off in ((ours, "tab:blue", -0.12), (theirs, "tab:orange", 0.12)):
            if values:
                found = Spread.of(values)
                ax.plot([found.least, found.most], [at + off] * 2, color=color, linewidth=2)
                ax.plot([found.median], [at + off], "o", color=color)
    labels = [label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…" for label, _, _ in panel.rows]
    ax.set_yticks(range(len(labels)), labels=labels, parse_math=False, fontsize=8)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    if all(value > 0 for _, *both in panel.rows for values in both for value in values):
        ax.set_xscale("log")
    ax.set_title(panel.title, parse_math=False, fontsize=9)
    ax.grid(axis="x", alpha=0.3)
