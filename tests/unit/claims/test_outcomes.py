"""Outcomes have the names that documents use, the worst of parts counts, and XML with a document type is refused."""

import pytest

from mvmnix.claims.outcomes import read_outcomes

RESULTS = b"""<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="checks.unit.test_a" name="test_one"/>
<testcase classname="checks.unit.test_a" name="test_two[x]"/>
<testcase classname="checks.unit.test_a" name="test_two[y.z]"><failure message="no"/></testcase>
<testcase classname="checks.unit.test_a.TestIt" name="test_three"><skipped/></testcase>
<testcase classname="checks.unit.test_b" name="test_four[a]"><skipped/></testcase>
<testcase classname="checks.unit.test_b" name="test_four[b]"/>
<testcase classname="checks.unit.test_c" name="test_five"><error/></testcase>
</testsuite></testsuites>"""


def test_tests_and_files_have_their_outcomes() -> None:
    assert read_outcomes(RESULTS) == {
        "checks/unit/test_a.py": "failed",
        "checks/unit/test_a.py::test_one": "passed",
        "checks/unit/test_a.py::test_two": "failed",
        "checks/unit/test_a.py::TestIt": "skipped",
        "checks/unit/test_a.py::TestIt::test_three": "skipped",
        "checks/unit/test_b.py": "passed",
        "checks/unit/test_b.py::test_four": "passed",
        "checks/unit/test_c.py": "failed",
        "checks/unit/test_c.py::test_five": "failed",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<a>",
        b"\xff\xfe",
        b'<?xml version="1.0" encoding="foo"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///x"><a/>',
    ],
)
def test_what_is_no_plain_xml_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not JUnit XML"):
        read_outcomes(data)
