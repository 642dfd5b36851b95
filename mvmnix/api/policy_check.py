"""Judges an image, a bundle, a source or an input by a trust policy as of a time, and says which rules decide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mvmnix.api.files import file_bytes
from mvmnix.api.verify.image import read_image_claim, verify_image
from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, UsageError
from mvmnix.formats.strict import show_time
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.launch.gate import checks, signatures
from mvmnix.launch.gate.verify import read_plan, verify_plan_without_image
from mvmnix.plan.plan import PREDICATE_TYPE as PLAN
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.verify import explain
from mvmnix.provenance.verify.explain import RuleFinding
from mvmnix.provenance.verify.verify import read_claim

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
class PolicyCheck:
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
        builders = [rule for rule in rules if rule.rule == "builders"]
        if not any(rule.admits for rule in builders):
            text = builders[0].text
            hint = "build it with an admitted builder, or add a [[builders]] entry to trust.toml if you mean to"
            reasons.append(Reason(ReasonCode.BUILDER_NOT_ADMITTED, "the provenance", text, hint))
        return Judged(path, "provenance", rules, tuple(reasons), steps=claimed.steps)


def _refuse_unprintable(uri: str) -> None:
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        raise UsageError(f"{uri!r} is not a URI", hint="name it as provenance does: path:NAME, git+URL?rev=COMMIT")
