"""Gives an account of a whole trust policy: whom it trusts, how far, until when, and what the floor leaves of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mvmnix.api import policy_history
from mvmnix.api.context import Context
from mvmnix.api.verify.policy_at import named_files
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.formats.strict import show_time
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.revocations import Revoked
from mvmnix.provenance.identity.trust import Identity, Signer
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import SERIAL_FILES, PolicyFile, TrustPolicy
from mvmnix.provenance.policy.policy_files import Files, in_force
from mvmnix.provenance.policy.rules import BuilderRule, Freshness, VerifierRule
from mvmnix.provenance.trust_toml import show_duration
from mvmnix.provenance.verify.explain import rule_owners


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
            "freshness": dict(self._bounds()),
            "isolation": str(it.isolation),
            "networkProxy": it.network_proxy,
            "unaskedVerbs": it.unasked_verbs,
            "warmStarts": it.warm_starts,
            "importedSnapshots": it.imported_snapshots,
            "revoked": [_entry(each) for each in self.revoked()],
            "narrowed": list(self.narrowed()),
        }

    @property
    def names(self) -> Mapping[Digest, str]:
        """Signers' names by their fingerprints."""
        return {signer.fingerprint: signer.name for signer in self.policy.signers}

    def _bounds(self) -> Iterator[tuple[str, str | None]]:
        it = self.policy.freshness
        for name, bound in (("provenance", it.provenance), ("planWindow", it.plan_window), ("planAge", it.plan_age)):
            yield name, None if bound is None else show_duration(bound)
        yield "snapshotsNotBefore", None if it.snapshots_not_before is None else show_time(it.snapshots_not_before)

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
    yield from _fresher(floor.freshness, user.freshness)
    if user.isolation is None and floor.required_isolation is Isolation.HARDWARE:
        yield f"the required isolation is the machine's: {floor.required_isolation}"
    if user.network_proxy is None and floor.network_proxy is False:
        yield "that no plan may name a proxy is the machine's"
    if user.unasked_verbs is None and floor.unasked_verbs is False:
        yield "that `mvm run` grants no verb unasked is the machine's"
    if user.warm_starts is None and floor.warm_starts is False:
        yield "that no machine starts from a template is the machine's"
    if user.expires < floor.expires:
        yield f"the user's file expires before the machine's, which does at {show_time(floor.expires)}"


def _fresher(floor: Freshness, user: Freshness) -> Iterator[str]:
    pairs = (
        ("the age of a build", user.provenance, floor.provenance),
        ("a plan's window", user.plan_window, floor.plan_window),
        ("a plan's age", user.plan_age, floor.plan_age),
    )
    for name, bound, limit in pairs:
        if limit is not None and bound is None:
            yield f"the bound on {name} is the machine's: {show_duration(limit)}"
    since = floor.snapshots_not_before
    if since is not None and user.snapshots_not_before is None:
        yield f"the time since when snapshots count is the machine's: {show_time(since)}"


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
            "identityKind": who.kind,
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


def named_account(path: str) -> Account:
    """The account of the policy at a path that the caller named. Raises MvmnixError."""
    floor, user = Files(None), named_files(path)
    return Account(in_force(floor, user), floor, user, now())


def account_in_force(context: Context) -> Account:
    """That of the policy in force here, held against the last one in the log, if there is a log. Raises MvmnixError."""
    floor, user = context.policy_files
    account = Account(in_force(floor, user), floor, user, now())
    try:
        found = policy_history.rolled_back(context, account.policy)
    except MvmnixError as error:
        return replace(account, not_compared=policy_history.why(error))
    return replace(account, rolled_back=tuple(f"{reason.what}: {reason.why}; {reason.hint}" for reason in found))
