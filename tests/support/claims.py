"""Reads the provenance in a bundle, whoever signed it."""

from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import Provenance


def claim_in(bundle: bytes) -> Provenance:
    """Read the provenance that a bundle's statement has."""
    return predicate.read_provenance(statement.parse(envelope.parse_bundle(bundle).payload))
