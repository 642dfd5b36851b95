"""Writes findings as SARIF 2.1.0 (OASIS, 27 March 2020), which code hosts show beside the lines; pure."""

from collections.abc import Iterable
from typing import Final

from mvmnix.claims.lint import Finding
from mvmnix.claims.rules import Rule

_VERSION: Final = "2.1.0"


def sarif_log(findings: Iterable[Finding], version: str) -> dict[str, object]:
    """Return a log with one run of `mvm lint claims`, of this version of mvm (section 3.13)."""
    rules = [{"id": rule.value, "shortDescription": {"text": rule.summary}} for rule in Rule]
    driver = {"name": "mvm lint claims", "version": version, "rules": rules}
    results = [_result(finding) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"version": _VERSION, "runs": [run]}


def _result(finding: Finding) -> dict[str, object]:
    """Return one result (section 3.27)."""
    region = {"startLine": finding.line, "startColumn": finding.column}
    place = {"artifactLocation": {"uri": finding.path}, "region": region}
    return {
        "ruleId": finding.rule.value,
        "level": "error",
        "message": {"text": f"{finding.words}: {finding.hint}"},
        "locations": [{"physicalLocation": place}],
    }
