"""How a plan says what a builder VM is made to show otherwise in a rebuild; pure."""

from collections.abc import Mapping

from mvmnix import strict
from mvmnix.model import DirectoryOrder
from mvmnix.provenance.slsa import Variation


def shown(variation: Variation) -> Mapping[str, object]:
    """As a plan has it."""
    return {
        "hostname": variation.hostname,
        "clockOffsetSeconds": variation.clock_offset,
        "directoryOrder": variation.directory_order,
    }


def read(record: strict.Record) -> Variation:
    """As `shown` wrote it. Raises ValueError."""
    return Variation(
        hostname=record.text("hostname", limit=64),
        clock_offset=record.integer("clockOffsetSeconds", -strict.MAX_INTEGER, strict.MAX_INTEGER),
        directory_order=record.choice("directoryOrder", DirectoryOrder),
    )
