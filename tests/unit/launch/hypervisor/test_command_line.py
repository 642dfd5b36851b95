"""The rules of a kernel command line."""

import pytest

from mvmnix.launch.hypervisor import command_line
from mvmnix.launch.hypervisor.port import Addition, BackendParameter

EXACT = "a" * command_line.LONGEST


@pytest.mark.parametrize(
    "text",
    [
        "console=hvc0 quiet reboot=t panic=-1",
        "initcall_blacklist=a,b",
        "a",
        EXACT,
        "x,readonly=off",
        "a=-- --b",
        "dm.tsc_early_khz=1",
    ],
)
def test_good(text: str) -> None:
    assert command_line.problems(text) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "single spaces"),
        (" a", "single spaces"),
        ("a ", "single spaces"),
        ("a  b", "single spaces"),
        ("a\tb", "single spaces"),
        ("a\nb", "single spaces"),
        ("a\n", "single spaces"),
        ("a\0b", "single spaces"),
        ("é", "single spaces"),
        ("a\u00a0b", "single spaces"),
        ('a="b c"', "quotation"),
        (EXACT + "a", "cut it off"),
        ("quiet tsc_early_khz=1", "for the backend"),
        ("tsc-early_khz", "for the backend"),
        ("quiet -- single", "`--`"),
        ("--", "`--`"),
    ],
)
def test_bad(text: str, problem: str) -> None:
    (found,) = command_line.problems(text)
    assert problem in found


def test_all_at_once() -> None:
    assert len(command_line.problems(EXACT + '  "tsc_early_khz=1 tsc_early_khz=1')) == 4


def test_what_a_backend_adds_fits() -> None:
    added = "".join(f" {Addition(name, 10**10 - 1)}" for name in BackendParameter)
    assert len(EXACT + added) == command_line.KERNEL_LIMIT == 2047
