"""Says what a policy makes of one thing, and by which of its rules: an image, a plan, a provenance, a source's URI."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mvmnix.api.files import file_bytes
from mvmnix.api.verify import bundles
from mvmnix.api.verify.image import verify_image
from mvmnix.builder.keeping.library import LIMIT
from mvmnix.builder.keeping.parcel import BUNDLE
from mvmnix.errors import Reason, ReasonCode, RefusedError, UsageError
from mvmnix.keys import Role
from mvmnix.launch import signatures, steps
from mvmnix.launch.plan import PREDICATE_TYPE as PLAN
from mvmnix.launch.plan import Plan
from mvmnix.launch.steps import Handed, Sheet
from mvmnix.model import Digest
from mvmnix.provenance import explain, predicate, statement
from mvmnix.provenance.authenticate import authenticate
from mvmnix.provenance.explain import Finding
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.strict import show_time

_SOURCE_HINT = "extend [sources] in trust.toml if you mean to"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the policy makes of a thing: refused for `reasons`, if there are any; `findings` are what its rules say."""

    name: str
    kind: str
    findings: tuple[Finding, ...]
    reasons: tuple[Reason, ...]
    level: int | None = None

    @property
    def admitted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def told(self) -> Mapping[str, object]:
        """The same for machines."""
        return {
            "name": self.name,
            "kind": self.kind,
            "admitted": self.admitted,
            "level": self.level if self.admitted else None,
            "rules": [{"rule": it.rule, "admits": it.admits, "text": it.text} for it in self.findings],
            "reasons": [reason.record for reason in self.reasons],
        }


@dataclass(frozen=True, slots=True)
class Judge:
    """A policy, and the time as of which it judges; `older` says why nothing may stand on it, where that is so."""

    policy: TrustPolicy
    now: datetime
    older: tuple[Reason, ...] = ()

    def item(self, name: str) -> Judged:
        """What was typed: a directory with an image, a file with bundles, or the URI of a source. Raises UsageError."""
        found = self._found(name)
        return replace(found, reasons=(*self.older, *found.reasons))

    def _found(self, name: str) -> Judged:
        if Path(name).is_dir():
            return self.image(name)
        if Path(name).is_file():
            return self.bundle(name)
        if ":" in name and not name.startswith(("/", ".")):
            return self.source(name)
        hint = "name a directory of `mvm build --out`, a bundle, or the URI of a source, path:hello or git+https://git.example/hello?rev=…"
        raise UsageError(f"{name} is neither a file nor the URI of a source", hint=hint)

    def source(self, uri: str) -> Judged:
        """A flake by its URI: as the root of a build; beside it, as a lock node's tree. Raises UsageError."""
        if not uri.isascii() or not uri.isprintable() or " " in uri:
            raise UsageError(f"{uri!r} is no URI", hint="name it as provenance does: path:NAME, git+URL?rev=COMMIT")
        found = tuple(explain.of_source(uri, self.policy))
        reasons = [
            Reason(ReasonCode.SOURCE_NOT_ADMITTED, uri, it.text, _SOURCE_HINT) for it in found if it.admits is False
        ]
        as_input = (replace(it, admits=None) for it in explain.of_input(uri, self.policy))
        return Judged(uri, "source", (*found, *as_input), (*reasons, *self.policy.expired(self.now)))

    def input(self, uri: str) -> Judged:
        """What a node of flake.lock is locked to, by its URI."""
        found = tuple(explain.of_input(uri, self.policy))
        hint = f"lock it to another place, or {_SOURCE_HINT}"
        reasons = [Reason(ReasonCode.INPUT_NOT_ADMITTED, uri, it.text, hint) for it in found if it.admits is False]
        return Judged(uri, "input", found, (*reasons, *self.policy.expired(self.now)))

    def image(self, directory: str, bundle: str = "", plan: str = "") -> Judged:
        """An image as `mvm build --out` wrote it, every byte of it, and a plan for it if one is named."""
        try:
            found = verify_image(self.policy, Path(directory), bundle, plan, moment=self.now)
        except RefusedError as error:
            return Judged(directory, "image", tuple(self._rules(directory, bundle)), error.reasons)
        it = found.provenance
        rules = tuple(explain.of_build(it.claim, it.signer, self.policy, image=found.image.name))
        return Judged(directory, "image", rules, (), it.level)

    def bundle(self, path: str) -> Judged:
        """A plan or a provenance by its bundle alone; the files that it is about are not looked at."""
        data = file_bytes(path, LIMIT).rstrip(b"\n")
        try:
            payload = signatures.payload(data)
            kind = statement.parse(payload).predicate_type
        except RefusedError as error:
            return Judged(path, "bundle", (), error.reasons)
        return self._plan(path, data) if kind == PLAN else self._provenance(path, data)

    def _plan(self, path: str, data: bytes) -> Judged:
        try:
            signed = signatures.gather(data, self.policy.trust)
            plan = steps.step_8_plan(statement.parse(signed[0].payload))
        except RefusedError as error:
            return Judged(path, "plan", (), error.reasons)
        handed = Handed(Digest.of(data), plan.manifest or Digest.of(b""), plan.provenance)
        sheet = Sheet(plan, signed, self.policy, handed, self.now)
        reasons = tuple(reason for step in steps.SHEET_STEPS for reason in step(sheet))
        findings = (*(explain.of_signer(each.signer) for each in signed), *self._of_plan(plan, len(signed)))
        return Judged(path, "plan", findings, reasons)

    def _of_plan(self, plan: Plan, signers: int) -> Iterator[Finding]:
        wanted, window = self.policy.thresholds.plans, plan.window
        yield Finding("thresholds", signers >= wanted, f"signed by {signers}, the policy asks for {wanted}")
        same = plan.policy == self.policy.digest
        made = "this policy" if same else f"policy {plan.policy}, this one is {self.policy.digest}"
        yield Finding("digest", same, f"made under {made}")
        held = ", or ".join(it.explained for it in plan.boundaries)
        fits = not any(steps.isolation_reasons(plan, self.policy))
        yield Finding("isolation", fits, f"held by {held}; the policy requires {self.policy.isolation}")
        yield Finding("freshness", None, f"valid from {show_time(window.not_before)} to {show_time(window.not_after)}")

    def _provenance(self, path: str, data: bytes) -> Judged:
        try:
            signed = authenticate(data, trust=self.policy.trust, role=Role.BUILDER, what="the provenance")
            claim = predicate.from_statement(statement.parse(signed.payload))
        except RefusedError as error:
            return Judged(path, "provenance", (), error.reasons)
        rules = tuple(explain.of_build(claim, signed.signer, self.policy, image=None))
        reasons = [*explain.refusals(claim, self.policy, self.now)]
        if _none_of("builders", rules):
            text = next(rule.text for rule in rules if rule.rule == "builders")
            hint = "build it with an admitted builder, or add a [[builders]] entry to trust.toml if you mean to"
            reasons.append(Reason(ReasonCode.BUILDER_NOT_ADMITTED, "the provenance", text, hint))
        return Judged(path, "provenance", rules, tuple(reasons))

    def _rules(self, directory: str, bundle: str) -> Iterator[Finding]:
        """What the rules say of an image's provenance that was refused, as far as its signer is known."""
        try:
            data = bundles.canonical(bundle) if bundle else bundles.canonical_in(f"{directory}/{BUNDLE}")
            signed = authenticate(data, trust=self.policy.trust, role=Role.BUILDER, what="the provenance")
            claim = predicate.from_statement(statement.parse(signed.payload))
        except RefusedError:
            return
        yield from explain.of_build(claim, signed.signer, self.policy, image=None)


def _none_of(rule: str, findings: Iterable[Finding]) -> bool:
    return not any(it.admits for it in findings if it.rule == rule)
