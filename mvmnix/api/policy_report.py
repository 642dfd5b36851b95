"""Gives an account of a whole trust policy: whom it trusts, how far, until when, and what the floor leaves of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from mvmnix.api.files import file_bytes
from mvmnix.api.verify.image import read_image_claim, verify_image
from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, UsageError
from mvmnix.formats.strict import show_time
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.launch.gate import checks, signatures
from mvmnix.launch.gate.verify import read_plan, verify_plan_without_image
from mvmnix.model import Digest
from mvmnix.plan.plan import PREDICATE_TYPE as PLAN
from mvmnix.plan.plan import Plan
from mvmnix.plural import counted
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.revocations import Revoked
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import SERIAL_FILES, PolicyFile, TrustPolicy
from mvmnix.provenance.policy.policy_files import Files
from mvmnix.provenance.policy.rules import BuilderRule, VerifierRule
from mvmnix.provenance.trust_toml import show_duration
from mvmnix.provenance.verify import explain
from mvmnix.provenance.verify.explain import RuleFinding, rule_owners
from mvmnix.provenance.verify.verify import read_claim

type Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """A policy in force and the files that made it, as of `now`.

    `rolled_back` says where it is older than the audit log's last one; `not_compared`, why that can't be told.
    """

    policy: TrustPolicy
    floor: Files
    user: Files
    now: datetime
    rolled_back: tuple[str, ...] = ()
    not_compared: str = ""

    @property
    def record(self) -> Mapping[str, object]:
        """All of it, for machines."""
        it = self.policy
        return {
            "digest": str(it.digest),
            "expires": show_time(it.expires),
            "expired": self.now >= it.expires,
            "rolledBack": list(self.rolled_back),
            "notCompared": self.not_compared,
            "serials": dict(zip(SERIAL_FILES, it.serials, strict=True)),
            "signers": [_signer(each, it) for each in it.signers],
            "roots": [self._root(digest) for digest in sorted(it.trust.roots)],
            "builders": [_builder(each, self.names) for each in it.builders],
            "verifiers": [_verifier(each, self.names) for each in it.verifiers],
            "sources": [
                {
                    "file": owner,
                    "patterns": list(rule.patterns),
                    "allowLocal": rule.allow_local,
                    "inputs": list(rule.inputs),
                    "pairs": [list(pair) for pair in rule.pairs],
                }
                for owner, rule in zip(rule_owners(it), it.sources, strict=True)
            ],
            "caches": [key.text for key in it.caches],
            "importFromDerivation": it.import_from_derivation,
            "requireInclusion": it.trust.require_inclusion,
            "thresholds": {"plans": it.thresholds.plans, "rebuilds": it.thresholds.rebuilds},
            "freshness": {name: None if bound is None else show_duration(bound) for name, bound in self._bounds()},
            "isolation": str(it.isolation),
            "networkProxy": it.network_proxy,
            "revoked": [_entry(each) for each in self.revoked()],
            "narrowed": list(self.narrowed()),
        }

    @property
    def names(self) -> Mapping[Digest, str]:
        """Signers' names by their fingerprints."""
        return {signer.fingerprint: signer.name for signer in self.policy.signers}

    def _bounds(self) -> Iterator[tuple[str, timedelta | None]]:
        it = self.policy.freshness
        yield from (("provenance", it.provenance), ("planWindow", it.plan_window), ("planAge", it.plan_age))

    def revoked(self) -> Iterator[Revoked]:
        """What either file revokes."""
        for file in (self.floor.revoked, self.user.revoked):
            yield from () if file is None else file.entries

    def root_name(self, digest: Digest) -> str:
        """What the user's file calls a trust root, or else the machine's."""
        pins = [pin for file in (self.user.policy, self.floor.policy) if file is not None for pin in file.roots]
        return next((pin.name for pin in pins if pin.digest == digest), digest.hex)

    def _root(self, digest: Digest) -> Mapping[str, object]:
        said: dict[str, object] = {"name": self.root_name(digest), "sha256": digest.hex}
        try:
            newest = trusted_root.parse(self.policy.trust.roots[digest]).newest
        except RefusedError as error:
            return said | {"problem": str(error)}
        days = None if newest is None else (self.now - newest).days
        return said | {"newest": None if newest is None else show_time(newest), "days": days}

    def narrowed(self) -> Iterator[str]:
        """What the machine's file allows and the user's leaves out, and where the machine's asks for more."""
        floor, user = self.floor.policy, self.user.policy
        if floor is None or user is None:
            return
        ours = {signer.fingerprint for signer in user.signers}
        gone = sorted(signer.name for signer in floor.signers if signer.fingerprint not in ours)
        if gone:
            yield f"of the machine's signers, the user's file leaves out {', '.join(gone)}"
        for rule in floor.builders:
            if rule not in user.builders:
                yield f"the user's file leaves out or narrows the machine's rule for {rule.builder_id}"
        yield from (
            f"the user's file leaves out the cache key {key.text}" for key in floor.caches if key not in user.caches
        )
        yield from _stricter(floor, user)


def _stricter(floor: PolicyFile, user: PolicyFile) -> Iterator[str]:
    for name, ours, theirs in (("plans", user.plans, floor.plans), ("rebuilds", user.rebuilds, floor.rebuilds)):
        if (theirs or 1) > (ours or 1):
            yield f"the threshold for {name} is the machine's: {theirs}"
    pairs = (
        ("the age of a build", user.freshness.provenance, floor.freshness.provenance),
        ("a plan's window", user.freshness.plan_window, floor.freshness.plan_window),
        ("a plan's age", user.freshness.plan_age, floor.freshness.plan_age),
    )
    for name, bound, limit in pairs:
        if limit is not None and bound is None:
            yield f"the bound on {name} is the machine's: {show_duration(limit)}"
    if user.isolation is None and floor.required_isolation is Isolation.HARDWARE:
        yield f"the required isolation is the machine's: {floor.required_isolation}"
    if user.network_proxy is None and floor.network_proxy is False:
        yield "that no plan may name a proxy is the machine's"
    if user.expires < floor.expires:
        yield f"the user's file expires before the machine's, which does at {show_time(floor.expires)}"


def _signer(it: Signer, policy: TrustPolicy) -> Mapping[str, object]:
    revoked = policy.trust.revocations
    said: dict[str, object] = {
        "name": it.name,
        "roles": sorted(it.roles),
        "log": None if it.log is None else it.log.hex,
        "revoked": it.fingerprint in revoked.keys,
    }
    if isinstance(it.credential, Identity):
        who = it.credential
        return said | {
            "identity": who.subject.text,
            "identityIsRegexp": who.subject.regexp,
            "issuer": who.issuer.text,
            "issuerIsRegexp": who.issuer.regexp,
            "root": who.domain.hex,
        }
    return said | {"key": it.fingerprint.hex}


def _builder(it: BuilderRule, names: Mapping[Digest, str]) -> Mapping[str, object]:
    return {
        "id": it.builder_id,
        "signer": names.get(it.signer, it.signer.hex),
        "level": it.level,
        "images": sorted(it.images),
        "builderImages": sorted(digest.hex for digest in it.builder_images),
    }


def _verifier(it: VerifierRule, names: Mapping[Digest, str]) -> Mapping[str, object]:
    return {
        "id": it.verifier_id,
        "signer": names.get(it.signer, it.signer.hex),
        "maxAge": show_duration(it.max_age),
        "minLevel": it.level,
        "resources": list(it.resources),
    }


def _entry(it: Revoked) -> Mapping[str, object]:
    return {"what": it.what, "reason": it.reason, "date": None if it.date is None else show_time(it.date)}


_SOURCE_HINT = "extend [sources] in trust.toml if you mean to"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the policy makes of a thing: refused for `reasons`, if there are any; `findings` are what its rules say.

    `steps` are the numbered steps that were taken.
    """

    name: str
    kind: str
    findings: tuple[RuleFinding, ...]
    reasons: tuple[Reason, ...]
    level: int | None = None
    steps: tuple[StepResult, ...] = ()

    @property
    def admitted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def record(self) -> Mapping[str, object]:
        """The same for machines."""
        return {
            "name": self.name,
            "kind": self.kind,
            "admitted": self.admitted,
            "level": self.level if self.admitted else None,
            "rules": [{"rule": it.rule, "admits": it.admits, "text": it.text} for it in self.findings],
            "reasons": [reason.record for reason in self.reasons],
            "steps": [step.record for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Judge:
    """A policy, and the time as of which it judges; `older` says why nothing may stand on it, where that is so."""

    policy: TrustPolicy
    now: datetime
    older: tuple[Reason, ...] = ()

    def item(self, name: str, provenance: str = "", plan: str = "") -> Judged:
        """What was typed: a directory with an image, a file with bundles, or the URI of a source. Raises UsageError.

        `provenance` is another bundle for the image than its directory's, `plan` a plan that has to be admitted too.
        """
        found = self._found(name, provenance, plan)
        return replace(found, reasons=(*self.older, *found.reasons))

    def _found(self, name: str, provenance: str, plan: str) -> Judged:
        if Path(name).is_dir():
            return self.image(name, provenance, plan)
        if Path(name).is_file():
            return self.bundle(name)
        if ":" in name and not name.startswith(("/", ".")):
            return self.source(name)
        hint = "name a directory of `mvm build --out`, a bundle, or the URI of a source, path:hello or git+https://git.example/hello?rev=…"
        raise UsageError(f"{name} is neither a file nor the URI of a source", hint=hint)

    def source(self, uri: str) -> Judged:
        """A flake by its URI: as the root of a build; beside it, as a lock node's tree. Raises UsageError."""
        _refuse_unprintable(uri)
        found = tuple(explain.of_source(uri, self.policy))
        reasons = [
            Reason(ReasonCode.SOURCE_NOT_ADMITTED, uri, it.text, _SOURCE_HINT) for it in found if it.admits is False
        ]
        as_input = (replace(it, admits=None) for it in explain.of_input(uri, self.policy))
        return Judged(uri, "source", (*found, *as_input), (*reasons, *self.policy.expired(self.now)))

    def input(self, uri: str) -> Judged:
        """What a node of flake.lock is locked to, by its URI. Raises UsageError."""
        _refuse_unprintable(uri)
        found = tuple(explain.of_input(uri, self.policy))
        hint = f"lock it to another place, or {_SOURCE_HINT}"
        reasons = [Reason(ReasonCode.INPUT_NOT_ADMITTED, uri, it.text, hint) for it in found if it.admits is False]
        return Judged(uri, "input", found, (*self.older, *reasons, *self.policy.expired(self.now)))

    def image(self, directory: str, bundle: str = "", plan: str = "") -> Judged:
        """An image as `mvm build --out` wrote it, every byte of it, and a plan for it if one is named."""
        try:
            claimed = read_image_claim(self.policy, Path(directory), bundle)
        except RefusedError as error:
            return Judged(directory, "image", (), error.reasons, steps=error.steps)
        build, signer = claimed.provenance, claimed.authentic.signer
        try:
            found = verify_image(self.policy, Path(directory), plan=plan, moment=self.now, claimed=claimed)
        except RefusedError as error:
            rules = tuple(explain.of_build(build, signer, self.policy, image=None))
            return Judged(directory, "image", rules, error.reasons, steps=error.steps)
        rules = tuple(explain.of_build(build, signer, self.policy, image=found.image.name))
        return Judged(directory, "image", rules, (), found.provenance.level, found.provenance.steps)

    def bundle(self, path: str) -> Judged:
        """A plan or a provenance by its bundle alone; the files that it is about are not looked at."""
        data = file_bytes(path, STATEMENT_LIMIT).rstrip(b"\n")
        try:
            payload = signatures.payload(data)
            kind = statement.parse(payload).predicate_type
        except RefusedError as error:
            return Judged(path, "bundle", (), error.reasons)
        return self._plan(path, data) if kind == PLAN else self._provenance(path, data)

    def _plan(self, path: str, data: bytes) -> Judged:
        try:
            it = read_plan(data, self.policy)
        except RefusedError as error:
            return Judged(path, "plan", (), error.reasons, steps=error.steps)
        findings = (*(explain.of_signer(each.signer) for each in it.signed), *self._of_plan(it.plan, len(it.signed)))
        try:
            return Judged(path, "plan", findings, (), steps=verify_plan_without_image(it, it.named, self.now).results)
        except RefusedError as error:
            return Judged(path, "plan", findings, error.reasons, steps=error.steps)

    def _of_plan(self, plan: Plan, signers: int) -> Iterator[RuleFinding]:
        wanted, window = self.policy.thresholds.plans, plan.window
        yield RuleFinding("thresholds", signers >= wanted, f"signed by {signers}, the policy asks for {wanted}")
        same = plan.policy == self.policy.digest
        made = "this policy" if same else f"policy {plan.policy}, this one is {self.policy.digest}"
        yield RuleFinding("digest", same, f"made under {made}")
        held = ", or ".join(it.explained for it in plan.boundaries)
        fits = not any(checks.isolation_reasons(plan, self.policy))
        yield RuleFinding("isolation", fits, f"held by {held}; the policy requires {self.policy.isolation}")
        if plan.network is not None and plan.network.proxy is not None:
            fits = not any(checks.proxy_reasons(plan, self.policy))
            yield RuleFinding(
                "network", fits, f"its guest's connections go out by the proxy {plan.network.proxy.typed}"
            )
        yield RuleFinding(
            "freshness", None, f"valid from {show_time(window.not_before)} to {show_time(window.not_after)}"
        )

    def _provenance(self, path: str, data: bytes) -> Judged:
        try:
            claimed = read_claim(data, self.policy)
        except RefusedError as error:
            return Judged(path, "provenance", (), error.reasons, steps=error.steps)
        claim = claimed.provenance
        rules = tuple(explain.of_build(claim, claimed.authentic.signer, self.policy, image=None))
        reasons = [*explain.refusals(claim, self.policy, self.now)]
        if _none_of("builders", rules):
            text = next(rule.text for rule in rules if rule.rule == "builders")
            hint = "build it with an admitted builder, or add a [[builders]] entry to trust.toml if you mean to"
            reasons.append(Reason(ReasonCode.BUILDER_NOT_ADMITTED, "the provenance", text, hint))
        return Judged(path, "provenance", rules, tuple(reasons), steps=claimed.steps)


def _refuse_unprintable(uri: str) -> None:
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        raise UsageError(f"{uri!r} is not a URI", hint="name it as provenance does: path:NAME, git+URL?rev=COMMIT")


def _none_of(rule: str, findings: Iterable[RuleFinding]) -> bool:
    return not any(it.admits for it in findings if it.rule == rule)


_SOON = timedelta(days=30)
_ISOLATION = {
    Isolation.HARDWARE: f"{Isolation.HARDWARE}: nothing starts but under hardware virtualization (KVM)",
    Isolation.MICROVM: f"{Isolation.MICROVM}, under hardware virtualization or emulated",
    Isolation.CONTAINER: f"{Isolation.CONTAINER}, or a microVM",
}


def account_lines(it: Account) -> Iterator[Row]:
    """What the rule is about, and what it says."""
    yield "digest", str(it.policy.digest)
    yield from _standing(it)
    yield from _who(it)
    yield from _what(it)
    yield from _bounds(it)
    for each in it.revoked():
        dated = "" if each.date is None else f", {each.date:%Y-%m-%d}"
        yield "revoked", each.what + dated + (f": {each.reason}" if each.reason else "")
    yield from (("floor", text) for text in it.narrowed())


def _standing(it: Account) -> Iterator[Row]:
    for name, serial in zip(SERIAL_FILES, it.policy.serials, strict=True):
        if serial:
            yield "file", f"{name}, serial {serial}"
    yield from (("file", f"ROLLED BACK, nothing starts: {why}") for why in it.rolled_back)
    if it.not_compared:
        yield "file", f"not compared with the audit log: {it.not_compared}"
    left = it.policy.expires - it.now
    when = f"in {counted(left.days, 'day')}" if left > timedelta(0) else "EXPIRED: nothing is trusted"
    yield "expires", f"{show_time(it.policy.expires)}, {when}" + (" (soon)" if timedelta(0) < left < _SOON else "")


def _who(it: Account) -> Iterator[Row]:
    for signer in it.policy.signers:
        revoked = " REVOKED" if signer.fingerprint in it.policy.trust.revocations.keys else ""
        yield "signer", f"{signer.name}: {', '.join(sorted(signer.roles))}; {_credential(it, signer)}{revoked}"
    for digest in sorted(it.policy.trust.roots):
        try:
            newest = trusted_root.parse(it.policy.trust.roots[digest]).newest
        except RefusedError as error:
            yield "root", f"{it.root_name(digest)}: {error.reasons[0].why}"
            continue
        age = "of unknown age"
        if newest is not None:
            age = f"no older than {newest:%Y-%m-%d}, {counted((it.now - newest).days, 'day')}"
        yield "root", f"{it.root_name(digest)}: {digest}, {age}"


def _credential(it: Account, signer: Signer) -> str:
    if isinstance(signer.credential, Identity):
        who = signer.credential
        told = f"{_pattern(who.subject)}, certified under the root {it.root_name(who.domain)}"
        return f"{told}, by the issuer {_pattern(who.issuer)}"
    log = "no log needed" if signer.log is None else f"logged by the root {it.root_name(signer.log)}"
    return f"key {signer.fingerprint}, {log}"


def _pattern(it: Pattern) -> str:
    return f"/{it.text}/" if it.regexp else it.text


def _what(it: Account) -> Iterator[Row]:
    policy, names = it.policy, it.names
    for rule in policy.builders:
        images = f"for the images {', '.join(sorted(rule.images))}" if rule.images else "for every image"
        ran = f", run by {', '.join(map(str, sorted(rule.builder_images)))}" if rule.builder_images else ""
        yield "builder", f"{rule.builder_id} by {names[rule.signer]}: SLSA Build L{rule.level} at most, {images}{ran}"
    for verifier in policy.verifiers:
        told = f"SLSA Build L{verifier.level} at least, {show_duration(verifier.max_age)} old at most"
        resources = ", ".join(verifier.resources)
        yield "verifier", f"{verifier.verifier_id} by {names[verifier.signer]}: {told}, about {resources}"
    for owner, source in zip(rule_owners(policy), policy.sources, strict=True):
        local = "local copies too" if source.allow_local else "no local copies"
        yield "sources", f"{owner}: {', '.join(source.patterns)}; {local}"
        yield "inputs", f"{owner}: {', '.join(source.inputs) or 'none'}"
    yield from (("pair", f"{original} may be locked to {locked}") for original, locked in policy.pairs)
    yield from (("cache", key.text) for key in policy.caches)
    if not policy.caches:
        yield "cache", "none: no path from a binary cache is trusted"
    taken = "the log's proof" if policy.trust.require_inclusion else "the log's proof, or its promise for files"
    yield "inclusion", taken
    yield "evaluation", f"may {'' if policy.import_from_derivation else 'not '}build, and read what it built"


def _bounds(it: Account) -> Iterator[Row]:
    policy = it.policy
    yield "plans", f"signed by {policy.thresholds.plans} planner(s) at least"
    yield "rebuilds", f"{policy.thresholds.rebuilds} builder(s) have to agree on an image at least"
    for name, bound in (
        ("build", policy.freshness.provenance),
        ("plan's window", policy.freshness.plan_window),
        ("plan's age", policy.freshness.plan_age),
    ):
        yield name, "no bound" if bound is None else f"{show_duration(bound)} at most"
    yield "isolation", _ISOLATION[policy.isolation]
    yield "network", f"a plan {'may' if policy.network_proxy else 'may not'} have it go out by a proxy"
