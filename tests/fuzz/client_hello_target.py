"""Fed by atheris: whatever a client says first is a ClientHello, or needs more, or is refused, in any portions alike.

The first byte says how long the portions are. Run by tests/integration/test_fuzz.py, and for longer: `make fuzz`.
"""

import sys

import atheris

with atheris.instrument_imports(include=["mvmnix.network", "mvmnix.formats.addresses"]):  # type: ignore[attr-defined]
    from mvmnix.network.gateway.client_hello import (
        MAX_HELLO_BYTES,
        ClientHello,
        ClientHelloReader,
        HelloRefusedError,
        alert_record,
    )

#: What a host name is made of.
NAME = set("abcdefghijklmnopqrstuvwxyz0123456789-.")
#: Bytes of a record's header, which may go beyond the bound to say so.
HEADER = 5


def outcome(portions: list[bytes]) -> ClientHello | str | None:
    """What comes of bytes in portions: a ClientHello, "refused", or None for more."""
    reader = ClientHelloReader()
    found = None
    try:
        for portion in portions:
            found = reader.feed(portion)
    except HelloRefusedError as refusal:
        assert len(alert_record(refusal.fault.alert)) == 7
        return "refused"
    assert reader.received == b"".join(portions)
    assert found is not None or len(reader.received) <= MAX_HELLO_BYTES + HEADER
    return found


def one(data: bytes) -> None:
    step, said = (data[0] or 1, data[1:]) if data else (1, b"")
    found = outcome([said])
    if isinstance(found, ClientHello):
        assert set(found.server_name) <= NAME
        assert 0 < len(found.server_name) <= 253
    assert outcome([said[at : at + step] for at in range(0, len(said), step)]) == found


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
