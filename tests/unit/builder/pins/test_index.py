"""Packages indexes: what is read of a stanza, which version counts, who provides what."""

import pytest

from mvmnix.builder.pins.index import Index, Relation
from tests.unit.builder.pins.small_index import index, stanza


def test_a_stanza_is_read() -> None:
    found = index(
        "trixie",
        stanza("first"),
        stanza("bash", "5.2", Pre_Depends="libc6 (>= 2.38)", Depends="base-files,\n debianutils", Essential="yes"),
        stanza("last"),
    ).package("bash")
    assert found is not None
    assert (found.version, found.size, found.suite, found.essential) == ("5.2", 4, "trixie", True)
    assert [str(group[0]) for group in found.depends] == ["libc6 (>= 2.38)", "base-files", "debianutils"]
    assert found.pool == "pool/main/b/bash"


def test_the_highest_version_of_several_counts() -> None:
    suite = index("trixie", stanza("a", "1.9"), stanza("a", "1.10"), stanza("a", "1.10~rc1"))
    assert [suite.package("a")] == [index("trixie", stanza("a", "1.10")).package("a")]


def test_several_files_make_one_index() -> None:
    suite = Index("trixie", [stanza("a").encode(), (stanza("b") + "\n").encode()])
    assert suite.package("a") is not None
    assert suite.package("b") is not None
    assert suite.package("c") is None


def test_providers_come_by_priority_then_name() -> None:
    suite = index(
        "trixie",
        stanza("original-awk", Provides="awk", Priority="optional"),
        stanza("gawk", Provides="awk", Priority="optional"),
        stanza("mawk", Provides="awk (= 2), other", Priority="required"),
        stanza("awkward", Description="Provides: awk"),
    )
    assert [one.name for one in suite.providers("awk")] == ["mawk", "gawk", "original-awk"]
    assert [one.satisfies(Relation("awk", "=", "2")) for one in suite.providers("awk")] == [True, False, False]
    assert suite.providers("bash") == ()


def test_a_stanza_without_a_field_is_an_error() -> None:
    suite = index("trixie", stanza("a").replace("SHA256", "MD5sum"))
    with pytest.raises(ValueError, match="lacks the field 'SHA256'"):
        suite.package("a")
