"""Machines that may start warm, what a guest of one draws and is, and the receipts of a world."""

from collections.abc import Set as AbstractSet
from pathlib import Path

from mvmnix.keys import Role
from mvmnix.machines.receipt import Receipt, from_statement
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.verify.authentication import authenticate
from tests.conftest import World
from tests.policies import effective

#: What a guest draws and is: a line each.
LOOK = """
bb=/bin/busybox
$bb head -c 16 /dev/urandom | $bb hexdump -v -e '16/1 "%02x" "\\n"'
$bb cat /proc/sys/kernel/random/uuid
$bb cat /proc/sys/kernel/random/boot_id
$bb hostname
$bb cat /etc/machine-id 2>/dev/null || echo "$bb $$"
$bb date +%s
"""
TRUE = ("--", "/bin/busybox", "true")
#: The image is a sealed one, which boots unless it is told otherwise.
ANY = ("--start", "any")


def receipts(world: World, before: AbstractSet[Path] = frozenset()) -> dict[Path, Receipt]:
    """The receipts of all machines but some, verified."""
    trust = effective(None, (world.home.config / "trust.toml").read_bytes()).trust
    found = {}
    for path in {*(world.home.state / "machines").glob("*/receipt.sigstore.json")} - before:
        authentic = authenticate(path.read_bytes(), trust=trust, role=Role.HOST, what="the receipt")
        found[path] = from_statement(statement.parse(authentic.payload))
    return found
