"""Reads the outcomes of tests from JUnit XML, by the names that documents have for them; pure."""

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

#: From the best to the worst; a file or a parametrized test has the worst of its parts that wasn't skipped.
_ORDER: Final = ("skipped", "passed", "failed")


def read_outcomes(data: bytes) -> Mapping[str, str]:
    """Return "passed", "skipped" or "failed" of each file, and of each test as FILE::CLASS::TEST.

    pytest's `classname` is a module's dotted name, with the names of classes behind it (its `xunit2` family). Raises
    ValueError for what is no XML, and for entities or document types in it.
    """
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, UnicodeError, LookupError) as error:
        raise ValueError(f"not JUnit XML: {error}") from error
    outcomes = dict[str, str]()
    for case in root.iter("testcase"):
        outcome = _outcome(case)
        for name in _names(case.get("classname", ""), case.get("name", "")):
            outcomes[name] = max(outcome, outcomes.get(name, outcome), key=_ORDER.index)
    return outcomes


def _outcome(case: Element) -> str:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in tags else "passed"


def _names(classname: str, name: str) -> tuple[str, ...]:
    parts = classname.split(".")
    module = max((index for index, part in enumerate(parts) if part.startswith("test_")), default=len(parts) - 1)
    file = f"{'/'.join(parts[: module + 1])}.py"
    own = (file, *parts[module + 1 :], name.partition("[")[0])
    return tuple("::".join(own[:count]) for count in range(1, len(own) + 1))
