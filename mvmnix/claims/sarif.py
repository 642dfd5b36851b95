"""Writes findings as SARIF 2.1.0 (OASIS, 27 March 2020), which code hosts show beside the lines; pure."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from mvmnix.claims.lint import Finding
from mvmnix.claims.rules import Rule

_VERSION: Final = "2.1.0"


def sarif_log(findings: Iterable[Finding], unreadable: Iterable[str], version: str) -> dict[str, object]:
    """Return a log with one run of `mvm lint claims`, of this version of mvm (section 3.13).

    What could not be read makes the run an unsuccessful one, with a notification for each file (section 3.20).
    """
    rules = [{"id": rule.value, "shortDescription": {"text": rule.summary}} for rule in Rule]
    driver = {"name": "mvm lint claims", "version": version, "rules": rules}
    results = [_result(finding) for finding in findings]
    notes = [{"level": "error", "message": {"text": text}} for text in unreadable]
    invocation = {"executionSuccessful": not notes, "toolExecutionNotifications": notes}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "invocations": [invocation]}
    return {"version": _VERSION, "runs": [run | {"results": results}]}


def _result(finding: Finding) -> dict[str, object]:
    """Return one result (section 3.27)."""
    region = {"startLine": finding.line, "startColumn": finding.column}
    place = {"artifactLocation": {"uri": quote(finding.path)}, "region": region}
    return {
        "ruleId": finding.rule.value,
        "level": "error",
        "message": {"text": f"{finding.words}: {finding.hint}"},
        "locations": [{"physicalLocation": place}],
    }
