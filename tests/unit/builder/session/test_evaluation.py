"""Evaluation, from the root tree to a closure and the trees that it is made from; and how its failures are told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.builder.fetch.caches import CachedPath
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import evaluation
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.model import Source
from mvmnix.system.store import Store
from tests.derivations import exported, fixed
from tests.fakes import FakeBuilder, Program, files_of, nar_of, source
from tests.unit.builder.session.site import CONTENTS, SEED, TOOL, Site
from tests.unit.provenance.world import DEB, new_world


def test_a_lock_node_that_evaluation_asks_for(site: Site) -> None:
    used, unused = site.request.lock.locked
    assert {used.name, unused.name} == {"used", "nixpkgs"}
    site.machine.wants = (used.store_path,)
    site.market.files = CONTENTS | {used.nar: nar_of(b"other")}
    site.refusal(ReasonCode.SOURCE_MISMATCH)
    assert f"mvm: asking for {used.uri} (lock node ".encode() in site.progress.said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("error: flake 'path:x' requires lock file changes but they're not allowed", ReasonCode.LOCK_STALE),
        ("error: … while updating the lock file of flake 'path:/nix/store/x'", ReasonCode.LOCK_STALE),
        ("error: in pure evaluation mode, 'fetchTree' doesn't fetch unlocked input 'x'", ReasonCode.FLAKE_UNLOCKED),
        ("error: cannot update unlocked flake input 'x' in pure mode", ReasonCode.FLAKE_UNLOCKED),
        ("error: cannot call 'fetchGit' in pure evaluation mode", ReasonCode.FLAKE_UNLOCKED),
    ],
)
def test_what_nix_complains_about(site: Site, words: str, code: ReasonCode) -> None:
    error = site.fails("eval", words)
    assert isinstance(error, RefusedError)
    assert error.codes == (code,)
    assert error.reasons[0].what == "path:x#hello"
    assert not isinstance(site.fails("build", words), RefusedError), "a build's words mean nothing"


def test_inputs_without_a_lock_file(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    site = Site(tmp_path, new_world(tmp_path / "world"), lock=None)
    error = site.fails("eval", "error: flake 'path:x' requires lock file changes but they're not allowed")
    assert isinstance(error, RefusedError)
    assert error.codes == (ReasonCode.FLAKE_UNLOCKED,)


NO_SUCH = "error: flake 'path:x' does not provide attribute 'packages.x86_64-linux.hello.drvPath'"


def test_a_missing_attribute_is_the_caller_s_mistake(site: Site) -> None:
    error = site.fails("eval", NO_SUCH)
    assert isinstance(error, UsageError)
    assert "path:x#hello" in error.message


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (b'["builder", "helo", "default"]', "did you mean helo? The flake has: builder, helo, default"),
        (b'["default"]', "the flake has: default"),
        (
            json.dumps([f"a{n}" for n in range(30)]).encode(),
            f"the flake has: {', '.join(f'a{n}' for n in range(20))} …",
        ),
        (b'["\\u001b[2J", "default", "a b", "--help"]', "the flake has: default"),
        (b"[]", "name one: FLAKE#ATTRIBUTE"),
        (b'["default", 1]', "name one: FLAKE#ATTRIBUTE"),
        (b'{"default": 1}', "name one: FLAKE#ATTRIBUTE"),
        (b"\xff", "name one: FLAKE#ATTRIBUTE"),
        (b"[" * 100_000, "name one: FLAKE#ATTRIBUTE"),
    ],
)
def test_attributes_that_there_are_are_named(site: Site, names: bytes, hint: str) -> None:
    """By the flake itself, which may say anything."""
    site.machine.answers = {"attributes": names}
    assert site.fails("eval", NO_SUCH).hint == hint
    flake = site.request.flake
    url = nix_commands.flake_url(flake.store_path, flake.nar, "in")
    assert nix_commands.list_attributes(url) in site.machine.calls


def test_words_of_an_evaluation_that_mean_something_else_come_first(site: Site) -> None:
    error = site.fails("eval", f"{NO_SUCH}\nerror: in pure evaluation mode")
    assert isinstance(error, RefusedError)
    assert not [call for call in site.machine.calls if "builtins.attrNames" in call]


@pytest.mark.parametrize("said", [b"", b"/nix/store/x", b"/etc/passwd\n", b"\xff", b"/nix/store/x" * 2])
def test_an_answer_that_is_no_store_path(site: Site, said: bytes) -> None:
    site.machine.answers = {"eval": said}
    site.refusal(ReasonCode.OUTPUT_MALFORMED)


def test_an_endless_answer_is_not_kept(site: Site) -> None:
    site.machine.answers = {"eval": b"/nix/store/" * 100_000}
    refusal = site.refusal(ReasonCode.OUTPUT_MALFORMED)
    assert "printed more than 65536 bytes" in refusal.reasons[0].why


# Import from derivation: what evaluation builds while it runs is made of fixed outputs too


@dataclass
class Importing(FakeBuilder):
    """A builder whose evaluation imports one after another of `imports`, and asks for `besides` in vain each time."""

    imports: tuple[Source, ...] = ()
    besides: tuple[str, ...] = ()
    hides: frozenset[str] = frozenset()

    @override
    def _evaluate(self, argv: Sequence[str]) -> bytes:
        for name in self.besides:
            self._get(f"{name}.narinfo")
        for it in self.imports:
            if it.name not in self.received:
                self._substitute(it.store_path)
        return super()._evaluate(argv)

    @override
    def _build(self, argv: Sequence[str]) -> bytes:
        for name in self.besides:
            self._get(f"{name}.narinfo")
        return super()._build(argv)

    @override
    def _program(self, argv: Sequence[str]) -> tuple[str, Program]:
        if argv[0] == "/bin/busybox" and "derivations" in argv:
            return "derivations", self._derivations
        if "--export" in argv:
            return "export these", self._export
        return super()._program(argv)

    def _derivations(self, argv: Sequence[str]) -> bytes:
        found = [it for it in self.imports if it.store_path.hash in argv and it.name not in self.hides]
        others = [f"/nix/store/{name}-other.drv" for name in self.besides if name in argv]
        return "\n".join([*(str(fixed(it).path(it.name)) for it in found), *others]).encode()

    def _export(self, argv: Sequence[str]) -> bytes:
        known = {fixed(it).path(it.name): fixed(it) for it in self.imports}
        return exported({path: it for path, it in known.items() if str(path) in argv})


def importing(site: Site, *imports: Source, **fields: Any) -> Importing:
    site.machine = machine = Importing(
        site.request.flake.store_path, files_of(site.world), (DEB, TOOL, SEED), imports=imports, **fields
    )
    return machine


def evaluations(machine: FakeBuilder) -> int:
    return sum("eval" in call for call in machine.calls)


LIST = source("list.json", b"list")


def test_what_evaluation_builds_is_brought_and_it_begins_again(site: Site) -> None:
    """The second import shows only once the first is there."""
    machine = importing(site, LIST, TOOL)
    site.market.files = CONTENTS | {LIST.digest: b"list"}
    record = site.build(from_derivation=True)
    assert record.from_derivation
    assert record.given.sources == tuple(sorted((DEB, TOOL, SEED, LIST)))
    assert evaluations(machine) == 3
    assert machine.received[LIST.name] == nar_of(b"list")
    assert f"mvm: asking for {LIST.uri} ".encode() in site.progress.said


def test_where_the_policy_does_not_allow_it_nothing_is_looked_for(site: Site) -> None:
    machine = importing(site, LIST)
    with pytest.raises(MvmnixError):
        site.build()
    assert evaluations(machine) == 1
    assert not any("derivations" in call for call in machine.calls)
    assert site.market.asked == []
    importing(site)
    error = site.fails("eval", "error: cannot build 'x' because the option 'allow-import-from-derivation' is disabled")
    assert isinstance(error, RefusedError)
    assert error.codes == (ReasonCode.FLAKE_UNSUPPORTED,)


@pytest.mark.parametrize(
    "uri",
    [
        "https://host/list.json?secret=what-it-read",
        "https://what-it-read@host/list.json",
        "https://user:what-it-read@host/list.json",
    ],
)
def test_an_address_that_could_carry_something_out_is_not_asked(site: Site, uri: str) -> None:
    machine = importing(site, replace(LIST, uri=uri))
    refused = site.refusal(ReasonCode.SOURCE_UNKNOWN, from_derivation=True)
    assert refused.reasons[0].what == uri
    assert site.market.asked == []
    assert evaluations(machine) == 1


def test_an_import_that_nobody_has_is_told(site: Site) -> None:
    machine = importing(site, LIST)
    with pytest.raises(RefusedError) as refused:
        site.build(from_derivation=True)
    assert [reason.what for reason in refused.value.reasons] == [LIST.uri]
    assert evaluations(machine) == 2, "it is not asked for a third time"
    assert f"mvm: asking for {LIST.uri} ".encode() in site.progress.said, "on record, though it failed"


def test_an_import_that_no_derivation_makes_ends_it(site: Site) -> None:
    machine = importing(site, LIST, hides=frozenset({LIST.name}))
    with pytest.raises(MvmnixError, match="does not exist and cannot be created"):
        site.build(from_derivation=True)
    assert evaluations(machine) == 1


def test_imports_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [source(f"{number}.json", str(number).encode()) for number in range(4)]
    site.market.files = CONTENTS | {it.digest: str(number).encode() for number, it in enumerate(many)}
    monkeypatch.setattr(evaluation, "MAX_ROUNDS", 4)
    machine = importing(site, *many)
    refused = site.refusal(ReasonCode.FLAKE_UNSUPPORTED, from_derivation=True)
    assert "more than 4 times" in refused.reasons[0].why
    assert evaluations(machine) == 4
    machine = importing(site, *many[:3])
    assert site.build(from_derivation=True).from_derivation, "the last round counts"
    assert evaluations(machine) == 4


def test_an_import_is_found_among_many_that_are_built(site: Site) -> None:
    """Each derivation's path is asked for, whether it is fixed or built: what is sought comes last by its hash."""
    machine = importing(site, LIST, besides=tuple(f"0{number:031}" for number in range(nix_commands.MOST_NAMES + 50)))
    assert LIST.store_path.hash > max(machine.besides)
    site.market.files = CONTENTS | {LIST.digest: b"list"}
    assert LIST in site.build(from_derivation=True).given.sources
    asked = [call for call in machine.calls if "derivations" in call]
    assert max(map(len, asked)) <= nix_commands.MOST_NAMES + 5


# Binary caches that can't be trusted


@dataclass
class Unsigned:
    """A cache that nobody trusted signs for."""

    def find(self, hash_part: str, doubt: Callable[[MvmnixError], None]) -> CachedPath | None:
        raise refuse(ReasonCode.CACHE_SIGNATURE, f"{hash_part}.narinfo", "nobody trusted signed it", "look at it")

    def bring(self, path: CachedPath, store: Store) -> None:
        raise AssertionError(path, store)


def test_what_a_cache_can_not_vouch_for_is_built(site: Site) -> None:
    site.market.caches = Unsigned()
    importing(site, LIST)
    site.market.files = CONTENTS | {LIST.digest: b"list"}
    record = site.build(from_derivation=True)
    assert record.given.cached == ()
    assert LIST in record.given.sources, "it was asked of the cache first, and then where it comes from"
    assert f"does not count: {LIST.store_path.hash}.narinfo: refused [cache-signature]".encode() in site.progress.said


@pytest.mark.parametrize("call", ["eval", "build"])
def test_a_failure_is_its_own_and_names_the_cache_besides(site: Site, call: str) -> None:
    site.market.caches = Unsigned()
    importing(site, besides=("0" * 32,))
    error = site.fails(call, "error: my last words")
    assert not isinstance(error, RefusedError)
    assert "my last words\nbesides, a binary cache's answer did not count: " in error.message
    assert "[cache-signature]" in error.message
