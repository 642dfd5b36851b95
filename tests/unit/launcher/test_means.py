"""What a caller hands over for a verified plan: directories of shares and secrets, each judged by itself."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.start_messages import (
    Reply,
    SecretsResolved,
    SecretsWanted,
    SharesOpened,
    SharesWanted,
)
from mvmnix.launch.shares.opening import OpenedShares, open_shares
from mvmnix.plan.secret_reference import LARGEST_SECRETS, SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Access, Share
from mvmnix.system.store import sealed_memory
from tests.unit.launcher.talk import Talk, all_closed, own_descriptors, sent

# shares


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Share, Share]:
    """One share to read and one to write."""
    for name in ("read", "write", "other"):
        (tmp_path / name).mkdir()
    return (
        Share(str(tmp_path / "read"), "/read"),
        Share(str(tmp_path / "write"), "/write", Access.READ_WRITE),
    )


def hand_over(said: Talk, found: OpenedShares, opened: tuple[str, ...] | None = None) -> None:
    """Hand over what was opened, as a caller does; it is closed here."""
    said.say(
        SharesOpened(tuple(found.directories) if opened is None else opened, tuple(found.reasons)), found.descriptors
    )
    found.close()


def test_the_directories_of_shares_are_handed_over(said: Talk, shared: tuple[Share, Share]) -> None:
    hand_over(said, open_shares(shared))
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert said.heard() == SharesWanted(shared)
        assert found.reasons == []
        for share in shared:
            assert os.path.samestat(os.fstat(found.directories[share.guest]), Path(share.host).stat())
        found.close()
    assert list(Path(shared[1].host).iterdir()) == []


def test_a_share_that_the_caller_can_not_have_says_why(said: Talk, shared: tuple[Share, Share]) -> None:
    missing = (shared[0], Share(f"{shared[0].host}/none", "/none"))
    hand_over(said, open_shares(missing))
    found = said.conversation.open_shares(missing)
    assert [reason.code for reason in found.reasons] == [ReasonCode.SHARE_UNAVAILABLE]
    found.close()


Wrong = Callable[[OpenedShares, Path], None]


def put(place: str, fd: int, kind: str = "directories") -> Callable[[OpenedShares], None]:
    """Return what puts a descriptor in the place of another."""

    def change(found: OpenedShares) -> None:
        descriptors = getattr(found, kind)
        os.close(descriptors[place])
        descriptors[place] = fd

    return change


def with_path_alone(found: OpenedShares, here: Path) -> None:
    """A directory that isn't open for reading."""
    put("/read", os.open(here / "read", os.O_PATH | os.O_DIRECTORY))(found)


def with_another_directory(found: OpenedShares, here: Path) -> None:
    """Another directory than the plan's."""
    put("/read", os.open(here / "other", os.O_RDONLY | os.O_DIRECTORY))(found)


def with_file(found: OpenedShares, _: Path) -> None:
    """A file in a directory's place."""
    put("/read", os.open(__file__, os.O_RDONLY))(found)


def with_socket(found: OpenedShares, _: Path) -> None:
    """A socket in a directory's place."""
    put("/read", socket.socket(socket.AF_UNIX).detach())(found)


def with_others_proof(found: OpenedShares, here: Path) -> None:
    """A proof that was made elsewhere."""
    put("/write", os.open(here / "other", os.O_TMPFILE | os.O_RDWR, 0o600), "proofs")(found)


def with_read_proof(found: OpenedShares, here: Path) -> None:
    """A file that is there, and open for reading alone."""
    (here / "write/file").write_text("")
    put("/write", os.open(here / "write/file", os.O_RDONLY), "proofs")(found)


def with_path_proof(found: OpenedShares, here: Path) -> None:
    """A file that is there, and not open at all."""
    (here / "write/file").write_text("")
    put("/write", os.open(here / "write/file", os.O_PATH), "proofs")(found)


def with_pipe_proof(found: OpenedShares, here: Path) -> None:
    """A FIFO in the directory."""
    os.mkfifo(here / "write/fifo")
    put("/write", os.open(here / "write/fifo", os.O_RDWR), "proofs")(found)


def without_proof(found: OpenedShares, _: Path) -> None:
    """No proof at all."""
    os.close(found.proofs.pop("/write"))


def with_proof_below(found: OpenedShares, here: Path) -> None:
    """A proof that was made in a directory below, which another user may have opened up."""
    (here / "write/below").mkdir()
    put("/write", os.open(here / "write/below", os.O_TMPFILE | os.O_RDWR, 0o600), "proofs")(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_path_alone, "isn't a directory that is open for reading"),
        (with_file, "isn't a directory that is open for reading"),
        (with_socket, "isn't a directory that is open for reading"),
        (with_another_directory, "is another directory"),
        (with_others_proof, "doesn't show that it may be written"),
        (with_read_proof, "doesn't show that it may be written"),
        (with_path_proof, "doesn't show that it may be written"),
        (with_pipe_proof, "doesn't show that it may be written"),
        (without_proof, "doesn't show that it may be written"),
        (with_proof_below, "doesn't show that it may be written"),
    ],
)
def test_a_descriptor_that_proves_nothing_is_refused(
    said: Talk, shared: tuple[Share, Share], tmp_path: Path, change: Wrong, words: str
) -> None:
    opened = open_shares(shared)
    change(opened, tmp_path)
    hand_over(said, opened)
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert {reason.code for reason in found.reasons} == {ReasonCode.SHARE_UNAVAILABLE}
        assert words in found.reasons[0].why
        found.close()


def test_a_directory_that_was_replaced_is_another(said: Talk, shared: tuple[Share, Share], tmp_path: Path) -> None:
    hand_over(said, open_shares(shared))
    (tmp_path / "read").rename(tmp_path / "moved")
    (tmp_path / "read").mkdir()
    found = said.conversation.open_shares(shared)
    assert ["is another directory" in reason.why for reason in found.reasons] == [True]
    found.close()


@pytest.mark.parametrize("opened", [(), ("/read",), ("/read", "/write", "/more")], ids=["none", "one", "names"])
def test_shares_without_descriptors_and_reasons_end_the_start(
    said: Talk, shared: tuple[Share, Share], opened: tuple[str, ...]
) -> None:
    said.say(SharesOpened(opened))
    with all_closed(), pytest.raises(MvmnixError, match="out of turn"):
        said.conversation.open_shares(shared)


def test_descriptors_that_no_share_has_are_closed(said: Talk, shared: tuple[Share, Share]) -> None:
    opened = open_shares(shared)
    more = own_descriptors(3)
    said.say(SharesOpened(tuple(opened.directories)), (*opened.descriptors, *more))
    opened.close()
    for fd in more:
        os.close(fd)
    with all_closed():
        found = said.conversation.open_shares(shared)
        assert found.reasons == []
        found.close()


# secrets

SECRETS = tuple(
    SecretReference(name, SecretTarget.FILE, SecretSource.FILE, (f"/{name}",)) for name in ("first", "second")
)


def memory(data: bytes) -> int:
    """Return memory that is not sealed."""
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def test_secrets_come_as_sealed_memory(said: Talk) -> None:
    fd = sealed_memory(b"onetwo!", name="x")
    said.say(SecretsResolved((3, 4)), (fd,))
    os.close(fd)
    with all_closed():
        found = said.conversation.resolve_secrets(SECRETS)
    assert [(secret.name, secret.value) for secret in found] == [("first", b"one"), ("second", b"two!")]
    assert said.heard() == SecretsWanted(SECRETS)


@pytest.mark.parametrize(
    ("make", "sizes", "words"),
    [
        (lambda: memory(b"onetwo!"), (3, 4), "it is not sealed memory"),
        (lambda: os.open(__file__, os.O_RDONLY), (3, 4), "it is not sealed memory"),
        (lambda: os.open("/", os.O_PATH), (3, 4), "it is not sealed memory"),
        (lambda: os.eventfd(0), (3, 4), "it is not sealed memory"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (3, 3), "more values than references, or fewer"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (7,), "more values than references, or fewer"),
        (lambda: sealed_memory(b"onetwo!", name="x"), (1, 2, 4), "more values than references, or fewer"),
        (lambda: sealed_memory(b"x" * (LARGEST_SECRETS + 1), name="x"), (3, 4), "are allowed"),
        (lambda: sealed_memory(b"x" * (16 << 10) + b"x" * (16 << 10), name="x"), (16 << 10, 16 << 10), ""),
    ],
    ids=["unsealed", "file", "path", "event", "size", "one", "three", "large", "as large as it may be"],
)
def test_memory_that_is_something_else(said: Talk, make: Callable[[], int], sizes: tuple[int, ...], words: str) -> None:
    fd = make()
    said.say(SecretsResolved(sizes), (fd,))
    os.close(fd)
    with all_closed():
        if not words:
            assert len(said.conversation.resolve_secrets(SECRETS)) == 2
            return
        with pytest.raises(RefusedError) as refused:
            said.conversation.resolve_secrets(SECRETS)
    assert set(refused.value.codes) == {ReasonCode.SECRET_UNAVAILABLE}
    assert words in refused.value.reasons[0].why


@pytest.mark.parametrize(
    ("message", "count"), [(SecretsResolved((1, 1)), 0), (SecretsResolved((1, 1)), 2), (Reply("x"), 1)]
)
def test_secrets_that_do_not_come(said: Talk, message: object, count: int) -> None:
    with sent(said, message, count), pytest.raises(MvmnixError, match="out of turn"):
        said.conversation.resolve_secrets(SECRETS)


def test_a_refusal_of_the_callers_is_the_starts(said: Talk) -> None:
    said.say(Failure.of(refuse(ReasonCode.SECRET_UNAVAILABLE, "the secret first", "there is nothing", "put it there")))
    with pytest.raises(RefusedError) as refused:
        said.conversation.resolve_secrets(SECRETS)
    assert refused.value.codes == (ReasonCode.SECRET_UNAVAILABLE,)
