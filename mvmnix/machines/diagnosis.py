"""What is kept of a boot that made no progress: how it is written down, and what the receipt says of it; pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.formats.escaping import escape_line
from mvmnix.vmm.boot_watchdog import Sample, StallReason

#: How often a machine's guest may begin to boot.
MOST_BOOTS: Final = 2
#: Bytes of one diagnosis; characters of one line of it and of one section. The hypervisor chooses some of its text.
LIMIT: Final = 256 * 1024
_LONGEST_LINE: Final = 512
_LONGEST_SECTION: Final = 32 * 1024
_FILE: Final = r"diagnosis-[1-9]\.txt"


def diagnosis_file(boot: int) -> str:
    """The file's name in the machine's directory; boots are counted from 1."""
    return f"diagnosis-{boot}.txt"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """That a boot of a machine made no progress, and the digest of what was kept of it in the file of that name."""

    file: str
    verdict: StallReason
    digest: Digest

    def value(self) -> Mapping[str, object]:
        """As it stands in the receipt."""
        return {"file": self.file, "verdict": self.verdict, "sha256": self.digest.hex}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        return cls(record.text("file", _FILE), record.choice("verdict", StallReason), record.digest())


def write(
    verdict: StallReason,
    sample: Sample,
    *,
    facts: Mapping[str, object],
    answers: Mapping[str, str],
    groups: Mapping[str, str],
    console: Iterable[str],
) -> bytes:
    """The file's bytes: plain text, each line escaped for a terminal, no longer than LIMIT.

    `facts` are the host's own about the boot; `answers` the hypervisor's, by question; `groups` the text of cpu.stat by
    control group; `console` the last lines of the guest's console.
    """
    sections = {
        f"no progress: {verdict}": [f"{name}: {value}" for name, value in facts.items()],
        "threads of the hypervisor": list(_threads(sample)),
        **{f"the hypervisor: {name}": _lines(text) for name, text in answers.items()},
        **{f"{group}/cpu.stat": _lines(text) for group, text in groups.items()},
        "the console's last lines": list(console),
    }
    return "".join(_section(title, lines) for title, lines in sections.items()).encode()[:LIMIT]


def _threads(sample: Sample) -> Iterator[str]:
    for it in sample.schedule.threads:
        delay = "not told" if it.delay_ns is None else f"{it.delay_ns // 10**6} ms"
        yield f"{it.number} {it.name!r}: state {it.state}, CPU {it.cpu_ms} ms, waited for a processor: {delay}"


def _lines(text: str) -> list[str]:
    return [line.expandtabs() for line in text[:_LONGEST_SECTION].splitlines()]


def _section(title: str, lines: Iterable[str]) -> str:
    text = "".join(f"{escape_line(line[:_LONGEST_LINE])[:_LONGEST_LINE]}\n" for line in lines)
    return f"== {escape_line(title)[:_LONGEST_LINE]}\n{text[:_LONGEST_SECTION]}\n"
