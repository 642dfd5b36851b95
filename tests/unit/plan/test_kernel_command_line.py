"""The rules of a kernel command line."""

import pytest

from mvmnix.plan import kernel_command_line
from mvmnix.plan.kernel_command_line import Addition, BackendParameter

EXACT = "a" * kernel_command_line.LONGEST


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
        "notsc tscx=1",
    ],
)
def test_good(text: str) -> None:
    assert kernel_command_line.problems(text) == ()


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
        ("quiet tsc=reliable", "tsc is for the backend"),
        ("quiet tsc=unstable", "tsc is for the backend"),
        ("tsc", "tsc is for the backend"),
    ],
)
def test_bad(text: str, problem: str) -> None:
    (found,) = kernel_command_line.problems(text)
    assert problem in found


def test_all_at_once() -> None:
    assert len(kernel_command_line.problems(EXACT + '  "tsc_early_khz=1 tsc_early_khz=1')) == 4


def test_what_a_backend_adds_fits() -> None:
    added = f" {Addition(BackendParameter.TSC_EARLY_KHZ, 10**10 - 1)} tsc=reliable"
    assert len(EXACT + added) == kernel_command_line.KERNEL_LIMIT == 2047


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (BackendParameter.TSC_EARLY_KHZ, 10**10),
        (BackendParameter.TSC_EARLY_KHZ, -1),
        (BackendParameter.TSC_EARLY_KHZ, "1 init=/bin/sh"),
        (BackendParameter.TSC, "unstable"),
        (BackendParameter.TSC, "reliable init=/bin/sh"),
        (BackendParameter.TSC, 1),
    ],
)
def test_an_addition_is_what_the_list_says(parameter: BackendParameter, value: int | str) -> None:
    with pytest.raises(ValueError, match="can't be"):
        Addition(parameter, value)
