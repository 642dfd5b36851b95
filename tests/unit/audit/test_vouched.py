"""A record that the log's key signed by itself is read back; what is changed is refused, and it seals nothing."""

from dataclasses import replace

import pytest

from mvmnix.audit.note import Checkpoint, NoteError, NoteKey
from mvmnix.audit.record import RecordKind
from mvmnix.audit.vouched import MAGIC, vouch, vouched_record
from mvmnix.formats.strict import MalformedError
from tests.unit.audit.world import new_signer, record

SIGNER = new_signer()
NOTE = vouch(record(1), SIGNER)


def test_it_is_what_the_log_signed() -> None:
    assert vouched_record(NOTE, SIGNER.key) == record(1)
    end = replace(record(2), kind=RecordKind.END, exit_code=3)
    assert vouched_record(vouch(end, SIGNER), SIGNER.key) == end


def test_every_flipped_bit_is_refused() -> None:
    for position in range(len(NOTE)):
        spoiled = bytearray(NOTE)
        spoiled[position] ^= 1 << position % 8
        with pytest.raises((NoteError, MalformedError)):
            vouched_record(bytes(spoiled), SIGNER.key)


def test_another_key_s_is_refused() -> None:
    with pytest.raises(NoteError):
        vouched_record(NOTE, new_signer(2).key)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        MAGIC + b"\n",
        record(1).line + b"\n",
        MAGIC + b"0\n" + record(1).line + b"\n",
        MAGIC + b"\n" + record(1).line + b"\n" + record(1).line + b"\n",
        MAGIC + b"\n{}\n",
    ],
)
def test_another_text_under_the_same_signature_is_none(text: bytes) -> None:
    with pytest.raises((NoteError, MalformedError)):
        vouched_record(SIGNER.note(text), SIGNER.key)


def test_neither_is_taken_for_the_other() -> None:
    """With either, a log could be cut off, or an end be told that never was."""
    checkpoint = Checkpoint.sign(1, b"\0" * 32, SIGNER)
    with pytest.raises(NoteError, match="not a record"):
        vouched_record(checkpoint.note, SIGNER.key)
    with pytest.raises(NoteError, match="it speaks of the log"):
        Checkpoint.verified(NOTE, SIGNER.key)
    assert not MAGIC.decode().startswith(NoteKey.of_log(SIGNER.key.public_key).name)
