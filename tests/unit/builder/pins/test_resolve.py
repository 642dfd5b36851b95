"""The resolver on small indexes: alternatives, virtual packages, cycles, reach, what stays and what moves."""

import pytest

from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.locks import DebianPin, DependencyDepth
from mvmnix.builder.pins.make import LockRequirements, resolve, without
from mvmnix.errors import UsageError
from tests.unit.builder.pins.small_index import index, stanza


def closure(suite: Index, *names: str, **kept: DebianPin) -> dict[str, DebianPin]:
    pins = {pin.name: pin for pin in kept.values()}
    return resolve(LockRequirements(dict.fromkeys(names, DependencyDepth.CLOSURE), pins, frozenset(pins)), [suite])


def edges(pins: dict[str, DebianPin]) -> dict[str, tuple[str, ...]]:
    return {name: pin.depends for name, pin in sorted(pins.items())}


def test_depends_and_pre_depends_are_followed_through_cycles() -> None:
    suite = index(
        "trixie",
        stanza("libc6", Depends="libgcc-s1"),
        stanza("libgcc-s1", Depends="gcc-14-base (= 1.0), libc6 (>= 0.5)"),
        stanza("gcc-14-base", Architecture="all"),
        stanza("bash", Pre_Depends="libc6", Depends="bash, libgcc-s1"),
        stanza("unrelated", Depends="nowhere"),
    )
    pins = closure(suite, "bash")
    assert edges(pins) == {
        "bash": ("libc6", "libgcc-s1"),
        "gcc-14-base": (),
        "libc6": ("libgcc-s1",),
        "libgcc-s1": ("gcc-14-base", "libc6"),
    }
    assert pins["gcc-14-base"].architecture == "all"


ALTERNATIVES = [
    ("the first that exists", "gone | bb | aa", (), "bb"),
    ("one that is requested", "aa | bb", ("bb",), "bb"),
    ("one that is essential", "aa | essential", (), "essential"),
    ("the first whose version fits", "aa (>= 2) | bb", (), "bb"),
    ("a real package before a provider", "vv", (), "vv"),
    ("the most important provider", "virtual", (), "q-important"),
    ("a requested provider", "virtual", ("p-provider",), "p-provider"),
    ("a provider of that version", "virtual (= 3)", (), "p-provider"),
    ("an alternative before a provider of it", "virtual-gone | aa", (), "aa"),
    ("a qualifier is dropped", "aa:any", (), "aa"),
]


@pytest.mark.parametrize(("depends", "requested", "chosen"), [row[1:] for row in ALTERNATIVES], ids=str)
def test_alternatives(depends: str, requested: tuple[str, ...], chosen: str) -> None:
    suite = index(
        "trixie",
        stanza("root", Depends=depends),
        stanza("aa"),
        stanza("bb"),
        stanza("vv"),
        stanza("essential", Essential="yes"),
        stanza("p-provider", Provides="virtual (= 3), vv", Priority="optional"),
        stanza("q-important", Provides="virtual", Priority="important"),
    )
    assert closure(suite, "root", *requested)["root"].depends == (chosen,)


def test_reach_limits_what_is_pinned_and_keeps_the_edges() -> None:
    suite = index("trixie", stanza("aa", Depends="bb"), stanza("bb", Depends="cc"), stanza("cc"))
    for reach, names in (
        (DependencyDepth.ALONE, {"aa"}),
        (DependencyDepth.DIRECT, {"aa", "bb"}),
        (DependencyDepth.CLOSURE, {"aa", "bb", "cc"}),
    ):
        pins = resolve(LockRequirements({"aa": reach}, {}), [suite])
        assert pins.keys() == names
        assert pins["aa"].depends == ("bb",)


def test_the_widest_reach_wins() -> None:
    suite = index(
        "trixie", stanza("aa", Depends="bb"), stanza("bb", Depends="cc"), stanza("cc"), stanza("zz", Depends="bb")
    )
    pins = resolve(
        LockRequirements(
            {"aa": DependencyDepth.DIRECT, "zz": DependencyDepth.CLOSURE, "bb": DependencyDepth.ALONE}, {}
        ),
        [suite],
    )
    assert pins.keys() == {"aa", "bb", "cc", "zz"}


def test_everything_unknown_is_told_at_once() -> None:
    suite = index(
        "trixie", stanza("aa", Depends="gone (>= 2) | lost, bb"), stanza("bb", Depends="cc (>> 9)"), stanza("cc")
    )
    with pytest.raises(UsageError) as error:
        closure(index("trixie", stanza("gawk", Provides="awk")), "awk", "typo")
    assert "no package awk in trixie (a virtual package, provided by gawk)" in str(error.value)
    assert "no package typo in trixie" in str(error.value)
    with pytest.raises(UsageError) as error:
        closure(suite, "aa")
    assert "aa depends on gone (>= 2) | lost, which is not in trixie" in str(error.value)
    assert "bb depends on cc (>> 9), which is not in trixie" in str(error.value)


OLD = index("trixie", stanza("aa", "1", Depends="lib"), stanza("lib", "1"), stanza("tool", "1", pool="lib"))


def test_present_pins_stay_while_they_fit() -> None:
    present = closure(OLD, "lib", "tool")
    new = index("trixie", stanza("aa", "2", Depends="lib (>= 1)"), stanza("lib", "2"), stanza("tool", "2", pool="lib"))
    pins = closure(new, "aa", "lib", "tool", **present)
    assert {name: pin.version for name, pin in pins.items()} == {"aa": "2", "lib": "1", "tool": "1"}


def test_a_present_pin_that_no_longer_fits_moves_with_its_source() -> None:
    present = closure(OLD, "lib", "tool")
    new = index("trixie", stanza("aa", "2", Depends="lib (>= 2)"), stanza("lib", "2"), stanza("tool", "2", pool="lib"))
    pins = closure(new, "aa", "lib", "tool", **present)
    assert {name: pin.version for name, pin in pins.items()} == {"aa": "2", "lib": "2", "tool": "2"}


def test_without_takes_all_that_was_built_from_one_source() -> None:
    present = closure(OLD, "aa", "lib", "tool")
    assert without(present, ["tool"]).keys() == {"aa"}
    assert without(present, []) == present


def test_a_present_choice_among_alternatives_stays() -> None:
    old = index("trixie", stanza("root", Depends="bb"), stanza("bb"))
    new = index("trixie", stanza("root", "2", Depends="aa | bb"), stanza("aa"), stanza("bb"))
    present = closure(old, "root")
    pins = resolve(LockRequirements({"root": DependencyDepth.CLOSURE}, {}, frozenset(present)), [new])
    assert pins["root"].depends == ("bb",)


def test_another_suite_gives_what_was_asked_of_it_and_what_only_it_satisfies() -> None:
    release = index("trixie", stanza("aa", "1"), stanza("bb", "1"), stanza("cc", "1"))
    security = index(
        "trixie-security", stanza("aa", "2", Depends="bb (>= 2), cc"), stanza("bb", "2"), stanza("cc", "2")
    )
    pins = resolve(
        LockRequirements({"aa": DependencyDepth.CLOSURE}, {}, suites={"aa": "trixie-security"}), [release, security]
    )
    assert {name: (pin.version, pin.suite) for name, pin in pins.items()} == {
        "aa": ("2", "trixie-security"),
        "bb": ("2", "trixie-security"),
        "cc": ("1", ""),
    }


@pytest.mark.parametrize(("version", "suite"), [("0.9", ""), ("1.0", ""), ("1.1", "trixie-security")])
def test_another_suite_is_left_when_the_release_has_caught_up(version: str, suite: str) -> None:
    indexes = [index("trixie", stanza("aa", "1.0")), index("trixie-security", stanza("aa", version))]
    pins = resolve(LockRequirements({"aa": DependencyDepth.CLOSURE}, {}, suites={"aa": "trixie-security"}), indexes)
    assert pins["aa"].suite == suite
    assert pins["aa"].version == max("1.0", version)


def test_contradicting_dependencies_end_in_an_error() -> None:
    release = index("trixie", stanza("xx", "1"), stanza("aa", Depends="xx (= 1)"), stanza("bb", Depends="xx (= 2)"))
    security = index("trixie-security", stanza("xx", "2"))
    with pytest.raises(UsageError, match="no single version of xx"):
        resolve(
            LockRequirements({"aa": DependencyDepth.CLOSURE, "bb": DependencyDepth.CLOSURE}, {}), [release, security]
        )
