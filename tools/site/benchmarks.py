"""The page of benchmarks: machine, versions and figures of a report.json that `python -m bench report` wrote."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def text(report: Path) -> str:
    """Return the tables of a report, in Markdown."""
    found = json.loads(report.read_text())
    about = "".join(f"| {name} | {value} |\n" for name, value in found["about"].items())
    return "\n".join([f"| measured on | |\n| --- | --- |\n{about}", *map(_section, found["benchmarks"])])


def _section(section: Mapping[str, Any]) -> str:
    heading = f"## {section['name']}\n\n"
    if section["failure"]:
        return f"{heading}Not measured:\n\n```text\n{_lines(section['failure'])}\n```\n"
    return (
        heading
        + "| figure | unit | mvm | compared with | its | ratio |\n| --- | --- | --- | --- | --- | --- |\n"
        + "".join(f"| {' | '.join(_cells(figure))} |\n" for figure in section["figures"])
    )


def _lines(failure: str) -> str:
    """Return the first lines of what a benchmark failed with; none ends the block that it stands in."""
    return "\n".join(line[:200].replace("`", "'") for line in failure.splitlines()[:4])


def _cells(figure: Mapping[str, Any]) -> Iterator[str]:
    yield from (figure["what"], figure["unit"], _spread(figure["ours"]))
    yield from (figure["compared"] or "", _spread(figure["theirs"]), _spread(figure["ratio"]))


def _spread(values: Mapping[str, float] | None) -> str:
    """Return the median, and the least and the most."""
    return "" if values is None else f"{values['median']:.3g} ({values['min']:.3g} to {values['max']:.3g})"
