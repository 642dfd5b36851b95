"""Entries of a transparency log, and its checkpoints (C2SP tlog-checkpoint): what is read, and what is none."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.merkle_proof import inclusion_path
from mvmnix.provenance.bundle import verification_material
from mvmnix.provenance.bundle.verification_material import Proof
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.rekor import Checkpoint, incoherences, promised_time, root_of, signed_by_promise
from tests.unit.provenance.forgeries import OURS, Case

ROOT = base64.b64encode(bytes(32)).decode()
SIGNATURE = f"\u2014 log {base64.b64encode(b'keyid')[:8].decode()}\n"
GOOD = f"log\n7\n{ROOT}\n\n{SIGNATURE}"


def test_what_is_read() -> None:
    found = Checkpoint.parse(GOOD)
    assert (found.origin, found.size, found.root) == ("log", 7, bytes(32))
    assert found.text == f"log\n7\n{ROOT}\n".encode()
    assert found.signatures == (("log", b"keyi", b"d"),)
    assert Checkpoint.parse(f"log\n7\n{ROOT}\nmore\n\n{SIGNATURE * 2}").origin == "log"


@pytest.mark.parametrize("size", ["0", "1", "9" * 19])
def test_sizes(size: str) -> None:
    assert Checkpoint.parse(GOOD.replace("\n7\n", f"\n{size}\n")).size == int(size)


@pytest.mark.parametrize(
    "note",
    {
        "": "not a signed note",
        f"log\n7\n{ROOT}\n{SIGNATURE}": "not a signed note",
        GOOD.removesuffix("\n"): "not a signed note",
        f"log\n7\n\n{SIGNATURE}": "not a signed note",
        f"\n7\n{ROOT}\n\n{SIGNATURE}": "not a signed note",
        GOOD.replace("\n7\n", "\n07\n"): "not a number",
        GOOD.replace("\n7\n", "\n-7\n"): "not a number",
        GOOD.replace("\n7\n", f"\n1{'0' * 19}\n"): "not a number",
        GOOD + "x\n": "not a signature",
        GOOD.replace("\u2014", "-"): "not a signature",
        f"log\n7\n{ROOT}\n\n\u2014 log {base64.b64encode(b'keyi').decode()}\n": "not a signature",
    }.items(),
    ids=repr,
)
def test_what_is_none(note: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=note[1]):
        Checkpoint.parse(note[0])


LEAVES = [b"%d" % number for number in range(13)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_a_path_leads_to_the_root(size: int) -> None:
    """And one of another length, or from a leaf that the tree doesn't have, leads nowhere."""
    hashes = [leaf_hash(leaf) for leaf in LEAVES[:size]]
    root = CompactRange().extend(LEAVES[:size]).root()
    for index in range(size):
        proof = Proof(index, size, root, inclusion_path(hashes, index), "")
        assert root_of(LEAVES[index], proof) == root
        for path, words in (((*proof.hashes, root), "too long"), (proof.hashes[:-1], "too short")):
            if path != proof.hashes:
                with pytest.raises(ValueError, match=words):
                    root_of(LEAVES[index], replace(proof, hashes=path))
        for short in (b"", root[:-1], root + b"x"):
            with pytest.raises(ValueError, match="not a hash"):
                root_of(LEAVES[index], replace(proof, hashes=(*proof.hashes[:-1], short)))
    for index in (-1, size):
        with pytest.raises(ValueError, match=f"no leaf {index} in a tree of {size}"):
            root_of(LEAVES[0], Proof(index, size, root, (), ""))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"promise": None}, ["it names a time that the log did not promise"]),
        ({"promise": None, "integrated": None}, []),
        ({"promise": None, "integrated": None, "proof": None}, ["it has neither a proof nor the log's promise"]),
        (
            {"promise": None, "integrated": None, "index": 2**40},
            ["the log did not promise its index, which is not that of the proof"],
        ),
        ({"index": 2**40}, []),
        ({"log_id": bytes(32)}, [f"no log of the trust root has the ID {bytes(32).hex()}"]),
    ],
)
def test_what_no_signature_covers_has_to_fit(changes: dict[str, Any], words: list[str]) -> None:
    """A promise covers index and time: what it says of them is looked at with its signature."""
    (entry,) = verification_material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    assert entry.proof is not None
    entry = replace(entry, index=entry.proof.index)
    assert list(incoherences(replace(entry, **changes), trusted_root.parse(OURS.trusted_root))) == words


@pytest.mark.parametrize(
    ("integrated", "year"),
    [(None, None), (0, None), (1, 1970), (2**36 - 1, 4147), (2**36, None), (2**63 - 1, None)],
)
def test_which_times_are_promised(integrated: int | None, year: int | None) -> None:
    """Not 0, which Protobuf writes for none; nor what is beyond any calendar."""
    (entry,) = verification_material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    found = promised_time(replace(entry, integrated=integrated))
    assert (None if found is None else found.year) == year
    assert promised_time(replace(entry, integrated=1, promise=None)) is None
    assert json.loads(signed_by_promise(replace(entry, integrated=integrated))) == {
        "body": base64.b64encode(entry.body).decode(),
        "integratedTime": integrated or 0,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }


@pytest.mark.parametrize(
    ("origin", "good"), [("{}", True), ("{} - 12", True), ("{} -12", False), ("{}x", False), ("x{} - 12", False)]
)
def test_whose_checkpoint_it_is(origin: str, *, good: bool) -> None:
    """Rekor's first version puts the ID of a tree behind its name."""
    (entry,) = verification_material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    assert entry.proof is not None
    name, _, rest = entry.proof.checkpoint.partition("\n")
    name = name.partition(" - ")[0]
    checkpoint = f"{origin.format(name)}\n{rest}"
    entry = replace(entry, proof=replace(entry.proof, checkpoint=checkpoint))
    found = list(incoherences(entry, trusted_root.parse(OURS.trusted_root)))
    assert found == (
        [] if good else [f"its checkpoint is of the log {origin.format(name)!r}, and signed in the name of {name!r}"]
    )


@pytest.mark.parametrize("count", [1, 0, 2])
def test_the_log_signs_its_checkpoint_once(count: int) -> None:
    (log,) = trusted_root.parse(OURS.trusted_root).logs
    line = f"\u2014 log {base64.b64encode(log.log_id[:4] + b'it').decode()}\n"
    found = Checkpoint.parse(f"log\n7\n{ROOT}\n\n{SIGNATURE}{line * count}")
    if count == 1:
        assert found.signature_of(log) == ("log", b"it")
        return
    with pytest.raises(ValueError, match=f"{count} signatures of the log stand under it"):
        found.signature_of(log)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("x", "its checkpoint is malformed: not a signed note"),
        (f"log\n7\n{ROOT}\n\n{SIGNATURE}", "its checkpoint is malformed: 0 signatures of the log stand under it"),
    ],
)
def test_a_checkpoint_that_is_none(checkpoint: str, words: str) -> None:
    (entry,) = verification_material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    assert entry.proof is not None
    spoiled = replace(entry, proof=replace(entry.proof, checkpoint=checkpoint))
    (told,) = incoherences(spoiled, trusted_root.parse(OURS.trusted_root))
    assert told.startswith(words)
