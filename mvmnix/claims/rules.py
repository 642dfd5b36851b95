"""Names the rules, and what each finds in a passage; pure."""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """The subject of a finding."""

    BROAD_PHRASE = "broad-phrase"
    CLAIM_WITHOUT_WITNESS = "claim-without-witness"
    MISSING_WITNESS = "missing-witness"
    UNLABELLED_FEATURE = "unlabelled-feature"
    OCI_WITHOUT_DIGEST = "oci-without-digest"
    CREDENTIAL = "credential"
    SNAPSHOT_WITHOUT_BACKEND = "snapshot-without-backend"
    ISOLATION_OF_EMULATION = "isolation-of-emulation"
    NEEDLESS_ALLOWANCE = "needless-allowance"

    @property
    def summary(self) -> str:
        """A line about what it finds."""
        return _SUMMARIES[self]


_SUMMARIES = {
    Rule.BROAD_PHRASE: "A promise that no test can show, such as “unhackable”",
    Rule.CLAIM_WITHOUT_WITNESS: "A security claim in a section that names no test",
    Rule.MISSING_WITNESS: "A named test that doesn't exist, is skipped, or failed in the given results",
    Rule.UNLABELLED_FEATURE: "An unfinished feature named without Planned or Preview",
    Rule.OCI_WITHOUT_DIGEST: "An OCI image that is pulled or run by a tag",
    Rule.CREDENTIAL: "A text in the form of a credential",
    Rule.SNAPSHOT_WITHOUT_BACKEND: "A claim about snapshots or cold machines that names no backend",
    Rule.ISOLATION_OF_EMULATION: "The isolation of a hardware VM, claimed for emulation or a container",
    Rule.NEEDLESS_ALLOWANCE: "A comment that allows what no rule finds",
}


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule found in a passage: the offset of its first character, its words, and a hint what to do."""

    rule: Rule
    offset: int
    words: str
    hint: str
