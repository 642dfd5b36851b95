"""Snapshots that leave their host: sealed to one recipient, and taken over as what they were or not at all."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from mvmnix.digest import Digest
from mvmnix.launch.snapshots import export
from mvmnix.launch.snapshots.export import ExportedSnapshot, open_export, parse_recipient, recipient_key, show_recipient
from mvmnix.launch.snapshots.statement import SnapshotClaim
from mvmnix.launch.snapshots.store import BUNDLE_LIMIT
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.sealed_stream import KEY_BYTES
from mvmnix.system.private_dirs import Directory
from tests.unit.launch.snapshots.kept import CHANGES, ID, OTHER_ID, PIECES, PLAN, STATE, Kept

OURS, THEIRS = recipient_key(b"\1" * KEY_BYTES), recipient_key(b"\2" * KEY_BYTES)
#: Bytes of a public key that have no secret in common with anybody (RFC 7748, section 6.1).
LOW_ORDER = bytes(32)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Kept]:
    """Another host's, with another sealing key."""
    with Directory.create(str(tmp_path / "others")) as directory:
        yield Kept(directory, b"\2" * KEY_BYTES)


def exported(here: Kept, claim: SnapshotClaim, to: X25519PublicKey | None = None) -> bytes:
    with here.snapshots.open(claim.id) as kept:
        key = here.snapshots.checked_key(kept, claim)
        return b"".join(export.exported(kept, key, to or THEIRS.public_key()))


def opened(data: bytes) -> ExportedSnapshot:
    return open_export(io.BytesIO(data), THEIRS)


def adopted(there: Kept, read: ExportedSnapshot, claim: SnapshotClaim) -> SnapshotClaim:
    """What the other host says of it once it is kept there."""
    with there.snapshots.begin(claim.id) as writer:
        writer.adopt(read.key, read.sealed, claim)
        assert writer.sealed == (claim.sealed, claim.sealed_bytes)
        claim = replace(claim, key=writer.key)
        writer.keep(b"theirs", read.plan, read.bundle)
    return claim


def test_it_is_there_as_it_was_here(here: Kept, there: Kept) -> None:
    claim = here.keep()
    read = opened(exported(here, claim))
    with here.snapshots.open(ID) as kept:
        assert (read.bundle, read.plan) == (kept.bundle, PLAN)
    theirs = adopted(there, read, claim)
    assert theirs.key != claim.key
    with there.snapshots.open(ID) as kept:
        assert (kept.bundle, kept.imported) == (b"theirs", read.bundle)
        guest = there.snapshots.unseal(kept, theirs, there.directory)
    assert (tuple(guest_memory.blocks(guest.memory)), guest.state) == (PIECES, STATE)
    assert here.snapshots.has(ID)


def test_nothing_of_it_can_be_read_and_no_two_are_alike(here: Kept) -> None:
    claim = here.keep()
    one, other = exported(here, claim), exported(here, claim)
    with here.snapshots.open(ID) as kept:
        key = here.snapshots.checked_key(kept, claim)
        assert not any(what in one for what in (key, kept.bundle, PLAN, STATE, PIECES[1][1][:32]))
    assert one[25:] != other[25:]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_changed(here: Kept, there: Kept, change: str) -> None:
    claim = here.keep()
    data = CHANGES[change](exported(here, claim))
    with pytest.raises(ValueError, match=r"not|end|sealed"):
        adopted(there, opened(data), claim)
    assert there.left() == []


def test_for_another_host(here: Kept) -> None:
    with pytest.raises(ValueError, match="not what was sealed"):
        opened(exported(here, here.keep(), OURS.public_key()))


def test_a_key_that_has_nothing_in_common(here: Kept) -> None:
    data = exported(here, here.keep())
    with pytest.raises(ValueError, match="shared key"):
        opened(data[:25] + LOW_ORDER + data[57:])
    with pytest.raises(ValueError, match="shared key"):
        parse_recipient(show_recipient(X25519PublicKey.from_public_bytes(LOW_ORDER)))


@pytest.mark.parametrize(
    "change",
    [
        lambda claim: replace(claim, sealed=Digest.of(b"another")),
        lambda claim: replace(claim, sealed_bytes=claim.sealed_bytes - 1),
        lambda claim: replace(claim, sealed_bytes=claim.sealed_bytes + 1),
        lambda claim: replace(claim, id=OTHER_ID),
    ],
)
def test_it_is_not_what_its_statement_says(
    here: Kept, there: Kept, change: Callable[[SnapshotClaim], SnapshotClaim]
) -> None:
    claim = here.keep()
    read = opened(exported(here, claim))
    with pytest.raises(ValueError, match=r"statement|sealed"):
        adopted(there, read, change(claim))
    assert there.left() == []


def test_with_the_key_of_another(here: Kept, there: Kept) -> None:
    claim = here.keep()
    read = replace(opened(exported(here, claim)), key=bytes(KEY_BYTES))
    with pytest.raises(ValueError, match="not what was sealed"):
        adopted(there, read, claim)


def test_it_is_taken_over_once(here: Kept, there: Kept) -> None:
    claim = here.keep()
    data = exported(here, claim)
    with there.snapshots.begin(ID) as writer:
        for attempt in range(2):
            read = opened(data)
            if attempt == 0:
                writer.adopt(read.key, read.sealed, claim)
            else:
                with pytest.raises(ValueError, match="once"):
                    writer.adopt(read.key, read.sealed, claim)


def test_a_recipient_is_written_and_read_one_way() -> None:
    text = show_recipient(OURS.public_key())
    assert parse_recipient(text) == OURS.public_key()
    assert recipient_key(b"\1" * KEY_BYTES).private_bytes_raw() == OURS.private_bytes_raw()
    assert OURS.private_bytes_raw() != THEIRS.private_bytes_raw()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "MCowBQYDK2VuAyEA",
        show_recipient(OURS.public_key()) + "\n",
        show_recipient(OURS.public_key())[:-1],
        show_recipient(THEIRS.public_key()).replace("MCowBQYDK2Vu", "MCowBQYDK2Vw"),
    ],
)
def test_what_is_no_recipient(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        parse_recipient(text)


def test_a_bundle_of_any_length(here: Kept) -> None:
    kept = here.keep()
    with here.snapshots.open(kept.id) as found:
        long = replace(found, plan=bytes(BUNDLE_LIMIT + 1))
        data = b"".join(export.exported(long, bytes(KEY_BYTES), THEIRS.public_key()))
    with pytest.raises(ValueError, match="too long"):
        opened(data)
