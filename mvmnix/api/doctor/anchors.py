"""What `mvm doctor` says about the audit log's anchors: each is asked what it says of the log."""

from collections.abc import Iterator

from mvmnix.api.audit_log import ask_anchors_of
from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.api.signer import key_file
from mvmnix.audit import AnchorAnswer
from mvmnix.keys import Role


def anchors(context: Context) -> Iterator[Finding]:
    """A line for each one that config.toml names."""
    rules = context.config.anchors
    if rules and not context.keys.exists(key_file(Role.HOST)):
        said = "not asked: there is no host key, so no log of this host's"
        yield from (Finding(f"anchor {rule.name}", Health.NOTE, said) for rule in rules)
    elif rules:
        for each in ask_anchors_of(context.audit, context.log_key, rules):
            hint = each.refused.hint if each.refused else ""
            yield Finding(f"anchor {each.anchor.name}", _health(each), each.said, hint)


def _health(it: AnchorAnswer) -> Health:
    if it.refused is not None:
        return Health.BAD if it.contradicts or it.anchor.required else Health.NOTE
    return Health.GOOD if it.anchor.put_away else Health.NOTE
