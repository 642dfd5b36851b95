"""Fed by atheris: whatever is signed about a snapshot, or sealed in one, is one claim or a refusal, and within bounds.

The first byte says whether the rest is a statement or the packed blocks of a memory. Run by
tests/integration/test_fuzz.py, and for longer: `make fuzz`.
"""

import sys

import atheris

with atheris.instrument_imports(include=["mvmnix.launch.snapshots", "mvmnix.launch.templates", "mvmnix.formats"]):  # type: ignore[attr-defined]
    from mvmnix.errors import RefusedError
    from mvmnix.launch.snapshots.statement import from_statement, snapshot_statement
    from mvmnix.launch.templates.guest_memory import pack, unpack
    from mvmnix.launch.templates.sealed_stream import PlainStream
    from mvmnix.provenance.bundle import statement

#: Bytes of the memory whose blocks are read: the second one is short.
SIZE = (1 << 16) + 100


def read_claim(data: bytes) -> None:
    """Read a claim; what is read can be written, and means the same then."""
    try:
        found = from_statement(statement.parse(data))
    except RefusedError:
        return
    written = snapshot_statement(found).to_bytes()
    assert from_statement(statement.parse(written)) == found, "it has two meanings"


def read_blocks(data: bytes) -> None:
    """Read blocks; they lie within the memory, and all that was read is in them."""
    try:
        found = tuple(unpack(PlainStream([data]), SIZE))
    except ValueError:
        return
    assert all(offset >= 0 and offset + len(block) <= SIZE for offset, block in found), "it is outside of the memory"
    assert b"".join(pack(found)) == data, "it has two meanings"


def one(data: bytes) -> None:
    (read_blocks if data[:1] == b"\1" else read_claim)(data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
