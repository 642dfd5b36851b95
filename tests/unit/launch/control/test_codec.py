"""The codec of both protocols: each message, found by introspection, is read back whole, and nothing else is taken."""

import dataclasses
import string
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeAliasType, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.formats.strict import canonical
from mvmnix.launch.agent.operations import MAX_PORTS, MOST_ROWS, CopyDirection, FileOperation
from mvmnix.launch.control import failure, messages, pool_messages, start_messages
from mvmnix.launch.control.codec import LIMIT, VERSION, VersionError, encode, name_of
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.pool_messages import MOST_WAITING, PoolAction, PoolRequest, PoolsKept, PoolStatus
from mvmnix.launch.control.start_messages import Mode, StartRequest
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.machines.retention import Retention
from mvmnix.plan.fields import MOST_MIB, MOST_VCPUS
from mvmnix.plan.secret_reference import LARGEST_SECRET, SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Access, Share
from mvmnix.system.log import LEVELS

TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)
GUEST_PATHS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=40)
NAMES = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), max_size=40)
WORDS = st.lists(TEXTS, max_size=4).map(tuple)
ROWS = st.integers(1, MOST_ROWS)
PORTS = st.integers(1, 65535)
SIGNALS = st.integers(1, 64)
HEX = "0123456789abcdef"
MACHINES = st.text(HEX, min_size=12, max_size=12)
DIGESTS = st.text(HEX, min_size=64, max_size=64).map("sha256:{}".format)
POOLS = st.text("0123456789abcdef", min_size=64, max_size=64)
KINDS = st.sampled_from(("xterm", "vt220", "screen-256color"))
STREAMS = st.sets(st.sampled_from(messages.Stream)).map(
    lambda chosen: tuple(each for each in messages.Stream if each in chosen)
)
ENVIRONMENTS = st.dictionaries(st.text(string.ascii_letters + "_", min_size=1, max_size=8), TEXTS, max_size=3)
STATUSES = st.builds(ExitStatus, st.sampled_from(End), st.sampled_from(Step), st.integers(0, 2**32 - 1), st.booleans())
REASONS = st.lists(st.builds(Reason, st.sampled_from(ReasonCode), TEXTS, TEXTS, TEXTS), max_size=3).map(tuple)
PATHS = st.text(string.ascii_letters, min_size=1, max_size=8).map("/srv/{}".format)
SHARES = st.builds(Share, PATHS, PATHS, st.sampled_from(Access))
SECRETS = st.builds(
    SecretReference,
    st.text(string.ascii_letters, min_size=1, max_size=8),
    st.sampled_from(SecretTarget),
    st.just(SecretSource.FILE),
    PATHS.map(lambda path: (path,)),
)

#: Each message and what it may hold. A kind without a row here fails `test_no_message_is_forgotten`.
STRATEGIES: Mapping[type, st.SearchStrategy[Any]] = {
    messages.Exec: st.builds(
        messages.Exec,
        st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
        ENVIRONMENTS,
        TEXTS,
        st.integers(0, 2**31 - 1),
        st.sampled_from(("", "0", "1000", "1000:100")),
        STREAMS,
    ),
    messages.Shell: st.builds(messages.Shell, WORDS, ROWS, ROWS, KINDS, ENVIRONMENTS, TEXTS, STREAMS),
    messages.Copy: st.builds(
        messages.Copy,
        st.sampled_from(CopyDirection),
        GUEST_PATHS,
        NAMES,
        st.booleans(),
        STREAMS,
    ),
    messages.Files: st.builds(
        messages.Files,
        st.sampled_from(FileOperation),
        GUEST_PATHS,
        TEXTS,
        st.booleans(),
        st.booleans(),
        STREAMS,
    ),
    messages.Signal: st.builds(messages.Signal, SIGNALS),
    messages.Resize: st.builds(messages.Resize, ROWS, ROWS),
    messages.Pause: st.just(messages.Pause()),
    messages.Resume: st.just(messages.Resume()),
    messages.TakeSnapshot: st.builds(messages.TakeSnapshot, st.booleans()),
    messages.Stop: st.builds(messages.Stop, st.booleans()),
    messages.Extend: st.builds(messages.Extend, st.integers(1, 2**31 - 1)),
    messages.Wait: st.just(messages.Wait()),
    messages.Ping: st.just(messages.Ping()),
    messages.Exited: st.builds(messages.Exited, STATUSES),
    messages.Done: st.just(messages.Done()),
    messages.SnapshotKept: st.builds(messages.SnapshotKept, MACHINES, DIGESTS),
    Failure: st.builds(Failure, st.integers(1, 255), TEXTS, TEXTS, REASONS, TEXTS, TEXTS),
    StartRequest: st.builds(
        StartRequest,
        mode=st.sampled_from(Mode),
        created=st.one_of(st.just(""), MACHINES),
        snapshot=st.one_of(st.just(""), MACHINES),
        name=TEXTS,
        retention=st.sampled_from(Retention),
        terminal=st.none() | st.builds(start_messages.TerminalSize, KINDS, ROWS, ROWS),
        image=st.lists(st.sampled_from(("kernel", "initrd", "manifest.json")), max_size=3).map(tuple),
        has_summary=st.booleans(),
        image_path=TEXTS,
        summary_path=TEXTS,
        ports=st.lists(PORTS, max_size=MAX_PORTS).map(tuple),
        is_build=st.booleans(),
        can_ask=st.booleans(),
        log=st.sampled_from(("", *LEVELS)),
        streams=STREAMS,
    ),
    start_messages.Reply: st.builds(start_messages.Reply, TEXTS),
    start_messages.SharesOpened: st.builds(
        start_messages.SharesOpened, st.lists(PATHS, max_size=8).map(tuple), REASONS
    ),
    start_messages.SecretsResolved: st.builds(
        start_messages.SecretsResolved, st.lists(st.integers(1, LARGEST_SECRET), max_size=4).map(tuple)
    ),
    start_messages.StopRequest: st.builds(start_messages.StopRequest, SIGNALS),
    start_messages.TerminalResized: st.builds(start_messages.TerminalResized, ROWS, ROWS),
    start_messages.Connect: st.just(start_messages.Connect()),
    start_messages.Detach: st.just(start_messages.Detach()),
    start_messages.Taken: st.builds(start_messages.Taken, st.integers(1, 2**22)),
    start_messages.Notice: st.builds(start_messages.Notice, TEXTS),
    start_messages.Logged: st.builds(start_messages.Logged, st.sampled_from(LEVELS), KINDS, TEXTS),
    start_messages.Question: st.builds(start_messages.Question, TEXTS),
    start_messages.SharesWanted: st.builds(
        start_messages.SharesWanted, st.lists(SHARES, min_size=1, max_size=8).map(tuple)
    ),
    start_messages.SecretsWanted: st.builds(
        start_messages.SecretsWanted, st.lists(SECRETS, min_size=1, max_size=4).map(tuple)
    ),
    start_messages.Started: st.builds(
        start_messages.Started,
        MACHINES,
        st.sampled_from(("", "kvm", "tcg")),
        DIGESTS,
        DIGESTS,
        WORDS,
        st.sampled_from(("qemu", "container")),
    ),
    PoolRequest: st.builds(
        PoolRequest,
        st.sampled_from(PoolAction),
        TEXTS,
        st.just("") | POOLS,
        st.integers(0, MOST_WAITING),
        st.booleans(),
        st.sampled_from(("", "info")),
    ),
    PoolsKept: st.builds(
        PoolsKept,
        st.lists(
            st.builds(
                PoolStatus,
                POOLS,
                TEXTS,
                st.integers(1, MOST_VCPUS),
                st.integers(1, MOST_MIB),
                st.integers(1, MOST_WAITING),
                st.integers(0, MOST_WAITING),
                TEXTS,
            ),
            max_size=MOST_WAITING,
        ).map(tuple),
    ),
    start_messages.Created: st.builds(start_messages.Created, MACHINES),
    start_messages.GuestConnected: st.builds(start_messages.GuestConnected, PORTS),
    start_messages.Ended: st.builds(
        start_messages.Ended,
        st.integers(0, 255),
        MACHINES,
        st.sampled_from(("finished", "told-to-stop")),
        DIGESTS,
        TEXTS,
        st.none() | STATUSES,
    ),
}

#: Each parser, and the messages that it takes.
PARSERS: Mapping[Callable[[bytes], object], object] = {
    messages.parse_request: messages.Request,
    messages.parse_answer: messages.Answer,
    start_messages.parse_request: StartRequest | PoolRequest,
    start_messages.parse_caller: start_messages.CallerMessage,
    start_messages.parse_event: start_messages.StartEvent,
}


def kinds(union: object) -> Iterator[type]:
    """Yield the classes of a union, of unions in it too."""
    if isinstance(union, TypeAliasType):
        yield from kinds(union.__value__)
    elif isinstance(union, type):
        yield union
    else:
        for each in get_args(union):
            yield from kinds(each)


def defined(module: ModuleType) -> set[type]:
    """Return the dataclasses that a module defines."""
    found = {each for each in vars(module).values() if isinstance(each, type) and dataclasses.is_dataclass(each)}
    return {each for each in found if each.__module__ == module.__name__}


PAIRS = [(parse, kind) for parse, union in PARSERS.items() for kind in kinds(union)]


def test_no_message_is_forgotten() -> None:
    """A dataclass of these modules is a message that a parser takes, or a part of one."""
    parts = {start_messages.TerminalSize, PoolStatus}
    taken = {kind for _, kind in PAIRS}
    assert set.union(*map(defined, (messages, start_messages, pool_messages, failure))) == taken | parts
    assert STRATEGIES.keys() == taken


@pytest.mark.parametrize(("parse", "kind"), PAIRS, ids=lambda each: each.__name__)
@given(st.data())
def test_a_message_is_read_back_whole(parse: Callable[[bytes], object], kind: type, data: st.DataObject) -> None:
    message = data.draw(STRATEGIES[kind])
    written = encode(message)
    assert len(written) <= LIMIT
    assert parse(written) == message
    assert encode(parse(written)) == written


@pytest.mark.parametrize(("parse", "kind"), PAIRS, ids=lambda each: each.__name__)
@given(st.data())
def test_another_version_is_named(parse: Callable[[bytes], object], kind: type, data: st.DataObject) -> None:
    written = encode(data.draw(STRATEGIES[kind]))
    ours = f'"version":{VERSION}}}'.encode()
    assert written.endswith(ours) or ours[:-1] + b"," in written
    other = written.replace(ours[:-1], f'"version":{VERSION + 1}'.encode())
    with pytest.raises((VersionError, ValueError), match=rf"version {VERSION + 1}|unknown|missing|not "):
        parse(other)


def test_another_version_is_one_clear_error() -> None:
    with pytest.raises(VersionError, match="speaks version 7 of the control protocol, and this one version") as caught:
        messages.parse_request(canonical({"version": 7, "ping": {}}))
    assert isinstance(caught.value, UsageError)
    assert "another mvm" in caught.value.hint


@pytest.mark.parametrize("parse", PARSERS, ids=lambda each: each.__name__)
@given(st.data())
def test_a_parser_takes_no_other_message(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    others = STRATEGIES.keys() - set(kinds(PARSERS[parse]))
    message = data.draw(STRATEGIES[data.draw(st.sampled_from(sorted(others, key=name_of)))])
    with pytest.raises(ValueError, match="not one message of a kind that is expected here"):
        parse(encode(message))


@pytest.mark.parametrize("parse", PARSERS, ids=lambda each: each.__name__)
@given(st.data())
def test_changed_bytes_are_refused_or_another_message(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    """Whatever is read can be written, and is the same again then: no two spellings mean two things."""
    kind = data.draw(st.sampled_from(sorted(kinds(PARSERS[parse]), key=name_of)))
    written = bytearray(encode(data.draw(STRATEGIES[kind])))
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse(bytes(written))
    except (ValueError, VersionError):
        return
    assert parse(encode(found)) == found


@pytest.mark.parametrize("parse", PARSERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version":2}',
        b'{"ping":{},"version":2,"wait":{}}',
        b'{"detach":{},"done":{},"ping":{},"taken":{"process":1},"version":2}',
        b'{"ping":{},"detach":{},"done":{},"version":true}',
        b'{"version":2,"startRequest":{}}',
        b'{"version":2' + b" " * LIMIT + b"}",
        b"\xff\xfe",
    ],
)
def test_what_is_no_message(parse: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data)


def test_a_message_that_is_too_long_is_not_written() -> None:
    with pytest.raises(ValueError, match="allowed"):
        encode(messages.Exec(("x" * LIMIT,)))


@given(
    st.lists(st.builds(Reason, st.sampled_from(ReasonCode), TEXTS, TEXTS, TEXTS), min_size=1, max_size=3).map(
        lambda reasons: RefusedError(*reasons)
    )
    | st.builds(lambda text, hint: MvmnixError(text, hint=hint), TEXTS, TEXTS)
    | st.builds(ValueError, TEXTS)
)
def test_an_error_arrives_as_itself(error: Exception) -> None:
    found = Failure.of(error).to_error()
    if isinstance(error, MvmnixError):
        assert (type(found), found.exit_code, found.message, found.hint) == (
            type(error),
            error.exit_code,
            error.message,
            error.hint,
        )
    else:
        assert found.exit_code == MvmnixError.exit_code


@pytest.mark.parametrize(
    "error",
    [
        RefusedError(*[Reason(ReasonCode.SHARE_UNAVAILABLE, "x" * 999, "y" * 9999, "z" * 9999)] * 500),
        RefusedError(Reason(ReasonCode.SHARE_UNAVAILABLE, "\x01" * 100_000, "y", "z")),
        RefusedError(Reason(ReasonCode.SHARE_UNAVAILABLE, "\0", "\N{GRINNING FACE}" * 9999, "\0")),
        MvmnixError("\N{GRINNING FACE}" * 100_000, hint="\x01" * 100_000),
        MvmnixError("with \0 in it", hint="\0"),
        MvmnixError("\udcff" * 100_000),
        ValueError("\udcff" * 100_000),
    ],
    ids=["many", "long", "wide", "message", "nul", "surrogates", "any"],
)
def test_however_long_an_error_is_its_caller_hears_of_it(error: Exception) -> None:
    found = messages.parse_answer(encode(Failure.of(error)))
    assert isinstance(found, Failure)
    assert found.to_error().exit_code == (error.exit_code if isinstance(error, MvmnixError) else MvmnixError.exit_code)
    if isinstance(error, RefusedError):
        assert {reason.code for reason in found.reasons} == set(error.codes)
