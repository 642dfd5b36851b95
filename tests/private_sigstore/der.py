"""Writes DER (ITU-T X.690) for what `cryptography` has no writer for, and takes apart a timestamp request."""

from datetime import UTC, datetime

from cryptography import x509

INTEGER, OCTETS, OID, UTF8, TIME, SEQUENCE, SET = 0x02, 0x04, 0x06, 0x0C, 0x18, 0x30, 0x31


def element(tag: int, *parts: bytes) -> bytes:
    """One element; its content is the parts in a row."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of elements."""
    return element(SEQUENCE, *parts)


def collection(*parts: bytes) -> bytes:
    """SET OF elements, in DER's order."""
    return element(SET, *sorted(parts))


def octets(data: bytes) -> bytes:
    """OCTET STRING."""
    return element(OCTETS, data)


def integer(value: int) -> bytes:
    """INTEGER, not negative."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def utf8(text: str) -> bytes:
    """UTF8String."""
    return element(UTF8, text.encode())


def tagged(number: int, *parts: bytes) -> bytes:
    """Constructed, context-specific: EXPLICIT [number]."""
    return element(0xA0 | number, *parts)


def time(moment: datetime) -> bytes:
    """GeneralizedTime in whole seconds."""
    return element(TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER, from its dotted form."""
    first, second, *rest = (int(arc) for arc in x509.ObjectIdentifier(dotted).dotted_string.split("."))
    return element(OID, *(_arc(arc) for arc in (40 * first + second, *rest)))


def _arc(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(0x80 | value & 0x7F)
    return bytes(reversed(digits))


def children(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element in a row. Raises ValueError."""
    found = []
    while data:
        tag, length, start = data[0], *_length(data)
        if len(data) < start + length:
            raise ValueError("the DER ends early")
        found.append((tag, data[start : start + length]))
        data = data[start + length :]
    return found


def _length(data: bytes) -> tuple[int, int]:
    """The length of the first element's content, and where that begins."""
    first = data[1] if len(data) > 1 else 0
    if first < 0x80:
        return first, 2
    end = 2 + (first & 0x7F)
    return int.from_bytes(data[2:end]), end
