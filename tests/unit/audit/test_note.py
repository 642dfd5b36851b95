"""Signed notes and checkpoints: C2SP's own example, what our key signs, and every way to spoil it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.audit.note import Checkpoint, NoteError, NoteKey, Signer
from tests.unit.audit.world import new_signer

SIGNER = new_signer()
CHECKPOINT = Checkpoint.sign(7, bytes(range(32)), SIGNER)

# golang.org/x/mod/sumdb/note, package documentation: the verifier key and the note signed by it
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def signed(text: str, signer: Signer = SIGNER) -> bytes:
    return signer.note(text.encode())


def test_a_foreign_note_verifies() -> None:
    key = NoteKey.parse(PETER)
    assert str(key) == PETER
    assert key.verified(PETERS_NOTE.encode()).startswith(b"If you think")


def test_a_checkpoint_survives_the_round_trip() -> None:
    assert Checkpoint.verified(CHECKPOINT.note, SIGNER.key) == CHECKPOINT
    lines = CHECKPOINT.note.decode().split("\n")
    assert lines[:4] == [SIGNER.key.name, "7", base64.b64encode(bytes(range(32))).decode(), ""]
    assert lines[4].startswith(f"\u2014 {SIGNER.key.name} ")


@pytest.mark.parametrize("key", [SIGNER.key, NoteKey("a", bytes(2) + b"\xfb\xef\xbe" * 10)], ids=str)
def test_verifier_keys_survive_the_round_trip(key: NoteKey) -> None:
    """Base64 has the sign that stands between the parts, too."""
    assert NoteKey.parse(str(key)) == key


def test_signatures_of_witnesses_are_left_alone() -> None:
    witness = Signer(NoteKey("witness.invalid/w1", new_signer(2).key.public_key), new_signer(2).sign)
    text, _, ours = CHECKPOINT.note.partition(b"\n\n")
    theirs = witness.note(text + b"\n").partition(b"\n\n")[2]
    note = text + b"\n\n" + theirs + ours
    assert Checkpoint.verified(note, SIGNER.key).root == CHECKPOINT.root
    with pytest.raises(NoteError, match="0 signatures"):
        Checkpoint.verified(text + b"\n\n" + theirs, SIGNER.key)


@given(st.integers(0, len(CHECKPOINT.note) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    note = bytearray(CHECKPOINT.note)
    note[position] ^= change
    with pytest.raises(NoteError):
        Checkpoint.verified(bytes(note), SIGNER.key)


@given(st.integers(0, len(CHECKPOINT.note) - 1))
def test_any_missing_end_is_noticed(length: int) -> None:
    with pytest.raises(NoteError):
        Checkpoint.verified(CHECKPOINT.note[:length], SIGNER.key)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(NoteError):
        Checkpoint.verified(data, SIGNER.key)


ROOT = base64.b64encode(bytes(32)).decode()
ME = SIGNER.key.name


@pytest.mark.parametrize(
    "text",
    [
        f"other\n1\n{ROOT}\n",
        f"{ME}\n1\n{ROOT}\nextension\n",
        f"{ME}\n1\n{ROOT}\n\n",
        f"{ME}\n1\n",
        f"{ME}\n01\n{ROOT}\n",
        f"{ME}\n-1\n{ROOT}\n",
        f"{ME}\n1e3\n{ROOT}\n",
        f"{ME}\n\u0661\n{ROOT}\n",
        f"{ME}\n99999999999999999999\n{ROOT}\n",
        f"{ME}\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ME}\n1\n{ROOT[:-1]}\n",
        f"{ME}\n1\n{ROOT[:-2]}B=\n",
        f"{ME}\n1\n{ROOT}\t\n",
        "\n\n\n",
    ],
)
def test_what_is_signed_but_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.verified(signed(text), SIGNER.key)


@pytest.mark.parametrize("seed", [2, 3])
def test_another_key_is_refused(seed: int) -> None:
    with pytest.raises(NoteError, match="0 signatures"):
        Checkpoint.verified(CHECKPOINT.note, new_signer(seed).key)
    forged = Checkpoint.sign(7, bytes(32), Signer(SIGNER.key, new_signer(seed).sign))
    with pytest.raises(NoteError, match="does not fit"):
        Checkpoint.verified(forged.note, SIGNER.key)


def test_two_signatures_of_one_key_are_refused() -> None:
    text, _, line = CHECKPOINT.note.partition(b"\n\n")
    with pytest.raises(NoteError, match="2 signatures"):
        Checkpoint.verified(text + b"\n\n" + line + line, SIGNER.key)


@pytest.mark.parametrize(
    "line",
    [
        "witness.invalid/w1 a2V5aWRz",
        "\u2014 witness.invalid/w1a2V5aWRz",
        "\u2014 witness+invalid/w1 a2V5aWRz",
        "\u2014  a2V5aWRz",
        "\u2014 witness.invalid/w1 a2V5aQ==",
    ],
)
def test_each_line_under_it_is_a_signature(line: str) -> None:
    """A name, and a key ID of four bytes with something signed: c2sp.org/signed-note."""
    good = CHECKPOINT.note + "\u2014 witness.invalid/w1 a2V5aWQ=\n".encode()
    assert Checkpoint.verified(good, SIGNER.key).root == CHECKPOINT.root
    with pytest.raises(NoteError, match="a line under it is not a signature"):
        Checkpoint.verified(CHECKPOINT.note + f"{line}\n".encode(), SIGNER.key)


def test_signatures_without_a_text_are_no_note() -> None:
    note = signed("\n")
    assert SIGNER.key.verified(note) == b"\n"
    with pytest.raises(NoteError, match="not a text, an empty line and lines of signature"):
        SIGNER.key.verified(note.removeprefix(b"\n\n"))


def test_size_is_bounded() -> None:
    signature = len(signed("\n")) - 1
    assert SIGNER.key.verified(signed("x" * (16_383 - signature) + "\n"))
    with pytest.raises(NoteError, match="longer"):
        SIGNER.key.verified(signed("x" * (16_384 - signature) + "\n"))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "x" * 129])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a note"):
        NoteKey(name, bytes(32))


@pytest.mark.parametrize("character", ["\0", "\t", "\r", "\x1f"])
def test_a_note_has_no_control_characters(character: str) -> None:
    assert SIGNER.key.verified(signed("a b\n")) == b"a b\n"
    with pytest.raises(NoteError, match="control characters"):
        SIGNER.key.verified(signed(f"a{character}b\n"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="has 32 bytes"):
        NoteKey("a", bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "a+00000000+AQ==",
        str(SIGNER.key)[:-2],
        str(SIGNER.key).replace("urn", "run"),
        PETER.replace("+AR", "+CR"),
    ],
)
def test_verifier_keys_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        NoteKey.parse(text)
