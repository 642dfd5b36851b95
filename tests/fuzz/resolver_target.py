"""Fed by atheris: whatever a guest asks, it gets one short answer or none, and addresses of allowed names alone.

Run by tests/integration/test_fuzz.py, and for longer: `make fuzz`.
"""

import sys
from ipaddress import IPv4Address

import atheris

with atheris.instrument_imports(include=["mvmnix.network", "dns"]):  # type: ignore[attr-defined]
    from mvmnix.network.gateway.resolver import reply_to

ADDRESS = IPv4Address("198.18.0.1")
#: Each type of answer can be reached by a seed.
ALLOWED = frozenset({"index.example", "a"})


def one(data: bytes) -> None:
    asked = list[str]()

    def address_of(name: str) -> IPv4Address | None:
        asked.append(name)
        return ADDRESS if name in ALLOWED else None

    reply = reply_to(data, address_of)
    assert len(asked) <= 1
    assert len(reply.message) <= 512
    assert bool(reply.message) is not (len(data) < 12 or bool(data[2] & 0x80))
    assert (ADDRESS.packed in reply.message[12:]) <= (reply.asked in ALLOWED or ADDRESS.packed in data)
    if reply.message:
        assert reply.message[:2] == data[:2]
        assert reply.message[2] & 0xF8 == 0x80 | data[2] & 0x78


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
