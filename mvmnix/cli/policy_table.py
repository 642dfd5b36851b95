"""Shows the account of a trust policy as rows of a table."""

from collections.abc import Iterator
from datetime import timedelta

from mvmnix.api.policy_account import Account
from mvmnix.errors import RefusedError
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import SERIAL_FILES, SOON
from mvmnix.provenance.trust_toml import show_duration
from mvmnix.provenance.verify.explain import rule_owners

type Row = tuple[str, str]
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
    yield "expires", f"{show_time(it.policy.expires)}, {when}" + (" (soon)" if timedelta(0) < left < SOON else "")


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
        told = f"{who.kind} {_pattern(who.subject)}, certified under the root {it.root_name(who.domain)}"
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
    since = policy.freshness.snapshots_not_before
    yield "snapshots", "no bound" if since is None else f"of {show_time(since)} and later"
    yield "isolation", _ISOLATION[policy.isolation]
    yield "network", f"a plan {'may' if policy.network_proxy else 'may not'} have it go out by a proxy"
    yield "verbs", f"a plan of `mvm run` {'may' if policy.unasked_verbs else 'may not'} grant some unasked"
    yield "warm starts", f"machines {'may' if policy.warm_starts else 'may not'} start from templates"
    yield "imports", f"snapshots that other hosts exported {'count' if policy.imported_snapshots else 'do not count'}"
