"""What a kill or power cut during an append can leave on the disk, and what must be true after each of them."""

from collections.abc import Iterable
from pathlib import Path

from mvmnix.audit.log import AuditLog
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import RecordKind
from mvmnix.audit.segment import BLANK, PLACES, SPARE, WIDTH, Segment
from mvmnix.audit.verify import verify_log
from tests.unit.audit.world import World, record


def snapshot(path: Path) -> dict[str, bytes]:
    """All files of a directory."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def restore(path: Path, files: dict[str, bytes]) -> None:
    """These files and no others."""
    for file in path.iterdir():
        file.unlink()
    for name, data in files.items():
        (path / name).write_bytes(data)


def states_of_an_append(world: World) -> list[dict[str, bytes]]:
    """Each write torn at each byte, in whatever order they came.

    Up to `fdatasync` the line and its seal may have come to the disk in any order; what was written is whole after it.
    """
    before = snapshot(world.path)
    world.log.append(record(99))
    after = snapshot(world.path)
    if new := [name for name in after if name.endswith(".jsonl") and name not in before]:
        whole = after[new[0]]
        lengths = [*range(len(whole) - SPARE + 3), *range(len(whole) - SPARE + 3, len(whole), 4096), len(whole)]
        return [*(before | {f".{new[0]}.0.tmp": whole[:length]} for length in lengths), before | {new[0]: whole}]
    name = max(name for name in after if name.endswith(".jsonl"))
    before = after | {name: before[name]}  # what else was written to was durable before the line
    segment, grown = Segment.parse(name, before[name]), Segment.parse(name, after[name])
    end, line = len(before[name]) - segment.spare, grown.lines[-1] + b"\n"
    place = (segment.first + len(grown.lines)) % PLACES
    start, seal = segment.start + place * WIDTH, grown.places[place]
    assert seal != BLANK

    def state(of_line: slice, of_seal: int) -> dict[str, bytes]:
        data = bytearray(before[name])
        data[start : start + of_seal] = seal[:of_seal]
        for position in range(*of_line.indices(len(line))):
            data[end + position : end + position + 1] = line[position : position + 1]
        return before | {name: bytes(data)}

    lines, seals = range(len(line) + 1), range(WIDTH + 1)
    pairs = {(here, seal) for here in lines for seal in (0, WIDTH // 2, WIDTH)}
    pairs |= {(here, seal) for seal in seals for here in (0, len(line) // 2, len(line))}
    torn = [state(slice(here), seal) for here, seal in sorted(pairs) if (here, seal) != (0, 0)]
    holes = (slice(len(line) // 2, None), slice(0, None, 2), slice(len(line) - 1, None))
    return [*torn, *(state(hole, seal) for hole in holes for seal in (0, WIDTH))]


def survives(world: World, size: int, states: Iterable[dict[str, bytes]]) -> None:
    """In none of these states is one of `size` sealed records lost, and the log goes on from each of them."""
    sealed = [record(number).line for number in range(size)]
    for state in states:
        restore(world.path, state)
        log = AuditLog(world.directory, world.signer)
        done = log.check()
        whole = 0 if done is None else done.size
        assert size <= whole <= size + 1
        left = 0
        if done is not None:
            evidence = verify_log(world.directory, world.key)
            assert done == evidence.checkpoint
            left = evidence.tail
        log.append(record(100))
        found = [listed.record for listed in last_records(world.directory, world.key, last=10**6)]
        assert [item.line for item in found[:size]] == sealed
        assert found[-1] == record(100)
        between = found[size:-1]
        assert between == ([record(99)] if whole > size else between)
        assert [item.kind for item in between[whole - size :]] == ([RecordKind.RECOVERY] if left else [])
        if left:
            tail = (world.path / f"tail-{between[-1].digests['tail'].hex}").read_bytes()
            assert len(tail) == left
        assert verify_log(world.directory, world.key).tail == 0
