"""`mvm doctor`: looks at the machine, says what works, what does not, and what repairs it; changes nothing."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import click
from rich.console import Console

from mvmnix import __version__
from mvmnix.audit.verify import verify_log
from mvmnix.cli.house import House, house
from mvmnix.cli.telling import answer, escape
from mvmnix.errors import MvmnixError
from mvmnix.launch.backends.qemu import Qemu


class Health(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    health: Health
    said: str
    next: str = ""


_MARKS = {Health.GOOD: "[green]✓[/green]", Health.NOTE: "[yellow]•[/yellow]", Health.BAD: "[red]✗[/red]"}


def _programs(_: House) -> Iterator[Finding]:
    yield Finding("mvm", Health.GOOD, f"{__version__}, Python {sys.version.split()[0]}")
    for program, package, why in (
        ("nix", "nix-bin", "builds the first builder image"),
        ("git", "git", "reads flakes out of git trees"),
        ("apt-get", "apt", "fetches Debian pins"),
        ("bwrap", "bubblewrap", "jails git and Nix, which read bytes of strangers"),
    ):
        found = shutil.which(program)
        if found:
            yield Finding(program, Health.GOOD, found)
        else:
            yield Finding(program, Health.BAD, f"is missing: {why}", f"apt-get install {package}")


def _hypervisor(_: House) -> Iterator[Finding]:
    try:
        yield Finding("QEMU", Health.GOOD, Qemu.find().executable)
    except MvmnixError as error:
        yield Finding("QEMU", Health.BAD, error.message, error.hint)
    if not os.path.exists("/dev/kvm"):  # noqa: PTH110
        yield Finding("KVM", Health.NOTE, "there is no /dev/kvm: guests run under TCG, slower and as isolated")
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding("KVM", Health.NOTE, "/dev/kvm can't be opened by you: guests run under TCG", "join the group kvm")
    else:
        yield Finding("KVM", Health.NOTE, "/dev/kvm is there; whether a guest boots in it, the first run finds out")


def _trust(rooms: House) -> Iterator[Finding]:
    names = rooms.keys.names()
    if not names:
        yield Finding("keys", Health.NOTE, "none yet", "`mvm run` makes them on first use, or mvm key create ROLE")
        return
    yield Finding("keys", Health.GOOD, f"{', '.join(names)} in {rooms.keys.path}")
    policy = rooms.policy
    yield Finding("trust policy", Health.GOOD, f"{len(policy.signers)} signers, {policy.digest}")


def _log(rooms: House) -> Iterator[Finding]:
    if not rooms.audit.names():
        yield Finding("audit log", Health.NOTE, "empty")
        return
    checkpoint = verify_log(rooms.audit, rooms.log_key, None).checkpoint
    yield Finding("audit log", Health.GOOD, f"{checkpoint.size} records verify")


CHECKS: tuple[tuple[str, Callable[[House], Iterator[Finding]]], ...] = (
    ("programs", _programs),
    ("hypervisor", _hypervisor),
    ("trust", _trust),
    ("audit log", _log),
)


def findings(rooms: House) -> Iterator[Finding]:
    """All findings; a check that fails is one itself."""
    for name, check in CHECKS:
        try:
            yield from check(rooms)
        except MvmnixError as error:
            yield Finding(name, Health.BAD, error.message, error.hint)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
def doctor(as_json: bool) -> int:
    """Say what works on this machine, what does not, and what to do. Exits with 1 when something does not work."""
    with house() as rooms:
        found = list(findings(rooms))
    if as_json:
        answer("doctor", [{"what": f.what, "health": f.health, "said": f.said, "next": f.next} for f in found])
    else:
        console = Console(highlight=False)
        for one in found:
            console.print(f"{_MARKS[one.health]} [bold]{one.what}[/bold] ", end="")
            console.print(escape(one.said + (f"  → {one.next}" if one.next else "")), markup=False)
    return int(any(one.health is Health.BAD for one in found))
