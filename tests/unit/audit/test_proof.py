"""Proof files: made from a log, checked with its public key alone; every changed byte is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.proof import ConsistencyProof, InclusionProof
from mvmnix.audit.reading import leaf_hashes
from mvmnix.audit.segment import CAPACITY
from mvmnix.audit.tail import read_head
from mvmnix.errors import ReasonCode, RefusedError
from tests.unit.audit.world import World, new_signer, record

SIZE = 21


def notes(world: World, size: int = SIZE) -> dict[int, bytes]:
    return {number + 1: world.log.append(record(number)).checkpoint.note for number in range(size)}


def leaves(world: World) -> list[bytes]:
    return leaf_hashes(world.directory, read_head(world.directory, world.key))


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        action()
    assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)
    return str(caught.value)


def test_a_record_is_proven_by_its_file_and_the_key(world: World) -> None:
    note = notes(world)[SIZE]
    for index in range(SIZE):
        data = InclusionProof.make(leaves(world), index, record(index).line, note).text
        proven = InclusionProof.parse(data).verified(world.key)
        assert (proven.listed.index, proven.listed.record) == (index, record(index))
        assert proven.checkpoint.note == note


def test_a_file_is_what_the_documentation_shows(world: World) -> None:
    note = notes(world, 2)[2]
    lines = InclusionProof.make(leaves(world), 1, record(1).line, note).text.decode().splitlines()
    assert (lines[0], lines[1][:6], lines[2], lines[4]) == ("c2sp.org/tlog-proof@v1", "extra ", "index 1", "")
    assert "\n".join(lines[5:]) + "\n" == note.decode()
    lines = ConsistencyProof.make(leaves(world), 1, note).text.decode().splitlines()
    assert (lines[0], lines[2]) == ("old 1", "")


def test_every_flipped_bit_of_a_record_s_proof_is_refused(world: World) -> None:
    note = notes(world)[SIZE]
    data = InclusionProof.make(leaves(world), 5, record(5).line, note).text
    for position in range(len(data)):
        spoiled = bytearray(data)
        spoiled[position] ^= 1 << position % 8
        refusal(lambda: InclusionProof.parse(bytes(spoiled)).verified(world.key))  # noqa: B023 - called at once


@pytest.mark.parametrize("old", [0, 1, 2, 3, 8, 13, SIZE - 1, SIZE])
def test_a_log_goes_on_from_what_was_kept(world: World, old: int) -> None:
    known = notes(world)
    known[0] = Checkpoint.sign(0, CompactRange().root(), world.signer).note
    proof = ConsistencyProof.parse(ConsistencyProof.make(leaves(world), old, known[SIZE]).text)
    assert proof.verified(world.key, known[old]).note == known[SIZE]
    other = known[5 if old != 5 else 6]
    assert "it goes on from" in refusal(lambda: proof.verified(world.key, other))


def test_every_flipped_bit_of_a_proof_of_consistency_is_refused(world: World) -> None:
    known = notes(world)
    data = ConsistencyProof.make(leaves(world), 13, known[SIZE]).text
    for position in range(len(data)):
        spoiled = bytearray(data)
        spoiled[position] ^= 1 << position % 8
        refusal(lambda: ConsistencyProof.parse(bytes(spoiled)).verified(world.key, known[13]))  # noqa: B023


def test_a_forked_log_proves_nothing(world: World) -> None:
    known = notes(world)
    for file in world.path.iterdir():
        file.unlink()
    for number in range(SIZE):
        world.log.append(record(number if number != 4 else 4444))
    note = read_head(world.directory, world.key).checkpoint.note
    proof = ConsistencyProof.make(leaves(world), 13, note)
    assert "forked" in refusal(lambda: proof.verified(world.key, known[13]))
    assert ConsistencyProof.make(leaves(world), 4, note).verified(world.key, known[4]).note == note


def test_a_path_of_another_length_is_refused(world: World) -> None:
    known = notes(world, 3)
    note, older = known[3], known[2]
    made = InclusionProof.make(leaves(world), 1, record(1).line, note)
    for path in (made.path[:-1], (*made.path, bytes(32))):
        assert "the path is too" in refusal(lambda: replace(made, path=path).verified(world.key))  # noqa: B023
    assert "is not in a tree of 3" in refusal(lambda: replace(made, index=3).verified(world.key))
    consistent = ConsistencyProof.make(leaves(world), 2, note)
    for path in (consistent.path[:-1], (*consistent.path, bytes(32))):
        assert "the path is too" in refusal(lambda: replace(consistent, path=path).verified(world.key, older))  # noqa: B023
    empty = Checkpoint.sign(0, CompactRange().root(), world.signer).note
    from_nothing = ConsistencyProof.make(leaves(world), 0, note)
    assert "the path is too long" in refusal(
        lambda: replace(from_nothing, path=(bytes(32),)).verified(world.key, empty)
    )


def test_another_key_is_refused(world: World) -> None:
    note = notes(world, 3)
    inclusion = InclusionProof.make(leaves(world), 1, record(1).line, note[3])
    consistency = ConsistencyProof.make(leaves(world), 2, note[3])
    other = new_signer(2)
    assert "checkpoint does not verify" in refusal(lambda: inclusion.verified(other.key))
    assert "checkpoint does not verify" in refusal(lambda: consistency.verified(other.key, note[2]))
    foreign = Checkpoint.sign(2, bytes(32), other).note
    assert "checkpoint does not verify" in refusal(lambda: consistency.verified(world.key, foreign))


@pytest.mark.parametrize("line", [b"{}", b"x"])
def test_what_is_proven_but_no_record(world: World, line: bytes) -> None:
    note = Checkpoint.sign(1, leaf_hash(line), world.signer).note
    assert "is not a record" in refusal(lambda: InclusionProof(0, line, (), note).verified(world.key))


@pytest.mark.parametrize("data", [b"", b"x", b"old 1\n", b"\xff", b"c2sp.org/tlog-proof@v1\n", bytes(10**6)])
def test_files_that_are_none(data: bytes) -> None:
    for parse in (InclusionProof.parse, ConsistencyProof.parse):
        assert "it does not parse" in refusal(lambda: parse(data))  # noqa: B023


def test_how_long_a_path_may_be(world: World) -> None:
    """A log of 2^63 records has paths of 63 hashes; one of an older state may have another."""
    note = notes(world, 3)[3]
    for made in (
        InclusionProof.make(leaves(world), 1, record(1).line, note),
        ConsistencyProof.make(leaves(world), 2, note),
    ):
        longest = replace(made, path=(bytes(32),) * 64)
        assert type(made).parse(longest.text) == longest
        assert "it does not parse" in refusal(
            lambda: type(made).parse(replace(made, path=(bytes(32),) * 65).text)  # noqa: B023 - called at once
        )


def test_how_large_a_file_may_be() -> None:
    """A checkpoint's note, and four times the longest record."""
    made = InclusionProof(0, b"x" * 30_000, (), b"")
    largest = replace(made, note=b"y" * (49_152 - len(made.text)))
    assert InclusionProof.parse(largest.text) == largest
    assert "it does not parse" in refusal(lambda: InclusionProof.parse(largest.text + b"y"))


def test_leaves_come_from_all_segments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda _: None)
    world.fill(CAPACITY + 3)
    assert leaves(world) == [leaf_hash(record(number).line) for number in range(CAPACITY + 3)]
