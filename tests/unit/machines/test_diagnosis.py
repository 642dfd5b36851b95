"""What is written down of a boot that made no progress: escaped, bounded, and named in the receipt."""

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.machines import diagnosis
from mvmnix.machines.diagnosis import LIMIT, Diagnosis, diagnosis_file
from mvmnix.vmm.boot_watchdog import Sample, StallReason
from mvmnix.vmm.scheduling import Schedule, Thread

SAMPLE = Sample(9.0, 1.2, 3, True, Schedule((Thread(7, "qe\nmu", "S", 1200, None), Thread(8, "x", "R", 1, 2**21)), 4))


def written(answer: str = "halted", console: tuple[str, ...] = ("last",)) -> str:
    answers, groups = {"info irq": answer}, {"/sys/fs/cgroup/cpu/mvm": "nr_throttled 4"}
    facts = {"boot": 1, "seconds": "9.0"}
    data = diagnosis.write(StallReason.STALLED, SAMPLE, facts=facts, answers=answers, groups=groups, console=console)
    assert len(data) <= LIMIT
    return data.decode()


def test_its_sections() -> None:
    assert written() == (
        "== no progress: stalled\nboot: 1\nseconds: 9.0\n\n"
        "== threads of the hypervisor\n"
        "7 'qe\\nmu': state S, CPU 1200 ms, waited for a processor: not told\n"
        "8 'x': state R, CPU 1 ms, waited for a processor: 2 ms\n\n"
        "== the hypervisor: info irq\nhalted\n\n"
        "== /sys/fs/cgroup/cpu/mvm/cpu.stat\nnr_throttled 4\n\n"
        "== the console's last lines\nlast\n\n"
    )


def test_what_a_hypervisor_says_is_text_in_its_section() -> None:
    text = written("a\tb\x1b[2J\u202e\udcff\r\n== no progress: hung\x85== forged\n")
    assert "\x1b" not in text
    assert r"a       b\u001b[2J\u202e\udcff" in text
    assert text.count("\n== ") == 4 + text.count("\n== no progress: hung") + text.count("\n== forged")


def test_it_is_bounded() -> None:
    assert len(written("x" * 10**7)) < 2000
    assert len(written("x\n" * 10**6)) < 2**16
    assert len(written("\U0001f600\u202e" * 10**6, ("\n" * 10**6,))) < 2**16


def test_its_place_in_a_receipt() -> None:
    kept = Diagnosis(diagnosis_file(2), StallReason.HUNG, Digest.of(b"x"))
    value = strict.parse_json(strict.canonical(kept.value()))
    assert strict.read(value, "diagnosis", Diagnosis.read) == kept
