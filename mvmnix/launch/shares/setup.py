"""Makes a plan's shares ready for a machine: opened, judged, each with its server or its image, or refused together."""

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.agent.requests import Mount
from mvmnix.launch.shares.image import MKFS, ShareImage, is_small, make_share_image
from mvmnix.launch.shares.opening import OpenedShares, open_shares
from mvmnix.launch.shares.risk_checks import refuse_dangers
from mvmnix.launch.shares.server import VIRTIOFSD, Server
from mvmnix.machines.receipt import ShareRecord
from mvmnix.model import User
from mvmnix.plan.share import Share, ShareKind
from mvmnix.sandbox.trusted_executables import locate
from mvmnix.system import procfs
from mvmnix.system.loop import Loop
from mvmnix.system.process import ProcessError
from mvmnix.vmm.confinement import Jail, Service
from mvmnix.vmm.port import Attachment

_MIB: Final = 1 << 20
#: A server's own memory, besides what the kernel keeps for each file that the guest knows: as much as the guest's.
_SERVERS_OWN: Final = 256
#: Bytes of memory for what makes an image, which is counted as its own.
_MAKERS: Final = 512 * _MIB


@dataclass(frozen=True, slots=True)
class ShareContext:
    """What shares are made ready for: the guest's memory in MiB and its workload's user; mvm's own directories.

    `open_shares` opens their directories, or has the caller do so. `written` is how many bytes the guest may write to
    all of them together; None bounds nothing.
    """

    jail: Jail
    memory_mib: int
    user: User
    own: tuple[str, ...]
    written: int | None = None
    open_shares: Callable[[Sequence[Share]], OpenedShares] = open_shares


@dataclass(frozen=True, slots=True)
class _Ready:
    """One share, with the server or the image that the guest gets it from."""

    share: Share
    mount: Mount
    source: Server | ShareImage

    @property
    def descriptor(self) -> int:
        """The hypervisor's end."""
        return self.source.fd if isinstance(self.source, ShareImage) else self.source.connection.fileno()

    def shared(self) -> ShareRecord:
        """For the receipt."""
        program, digest, image = self.source.program, self.source.program_digest(), None
        if isinstance(self.source, ShareImage):
            image = self.source.digest
        return ShareRecord(self.share.guest, self.share.access, self.mount.kind, program, digest, image)


class Shares:
    """The shares of one machine. They have descriptors, sandboxes and, once started, processes, until `close`."""

    def __init__(self) -> None:
        """None yet; `ready` makes them."""
        self._ready: list[_Ready] = []
        #: The guest's memory as a file that the servers map, where there is a server.
        self.memory: int | None = None
        #: What stands for images in a machine that is saved.
        self._placeholders = list[int]()
        #: Whether it is counted what the guest writes.
        self._limited = False

    @classmethod
    def ready(cls, shares: Sequence[Share], given: ShareContext) -> Self:
        """Open and judge all of them, and then make what they need.

        Raises RefusedError [share-forbidden, share-unavailable, state-permissions] with all reasons, RefusedError
        [limit-unavailable], MvmnixError for what the host lacks.
        """
        made, directories = cls(), _judge(shares, given)
        made._limited = given.written is not None
        try:
            if made._limited:
                _refuse_unless(procfs.counts_written(), "any process")
            for number, share in enumerate(shares):
                made._add(share, _tag(number), directories, given)
            if made._servers:
                made.memory = _memory(given.memory_mib * _MIB)
        except BaseException:
            made.close()
            raise
        finally:
            for fd in directories.values():
                os.close(fd)
        return made

    @classmethod
    def of_placeholders(cls, descriptors: Sequence[int]) -> Self:
        """Return what has no share, but devices like those of so many images; takes over the descriptors."""
        made = cls()
        made._placeholders = [*descriptors]
        return made

    def _add(self, share: Share, tag: str, directories: dict[str, int], given: ShareContext) -> None:
        fd = directories[share.guest]
        memory = (_SERVERS_OWN + given.memory_mib) * _MIB
        written = given.written if share.writable else None
        service = Service(
            program="",
            directory=fd,
            writable=share.writable,
            inside=given.user,
            memory=memory,
            written=written,
        )
        if not share.writable and not share.follow and is_small(fd):
            maker = replace(service, program=locate(MKFS), memory=_MAKERS)
            mount = Mount(tag, share.guest, ShareKind.EROFS, read_only=True)
            self._ready.append(_Ready(share, mount, make_share_image(given.jail, maker)))
            return
        mount = Mount(tag, share.guest, ShareKind.VIRTIOFS, not share.writable)
        server = Server(given.jail, replace(service, program=locate(VIRTIOFSD)))
        del directories[share.guest]  # it is the server's now
        self._ready.append(_Ready(share, mount, server))

    @property
    def _servers(self) -> tuple[tuple[Share, Server], ...]:
        return tuple((it.share, it.source) for it in self._ready if isinstance(it.source, Server))

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What the guest is told of them."""
        return tuple(it.mount for it in self._ready)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The hypervisor's ends."""
        shares = ((it.mount.tag, it.descriptor, it.mount.kind) for it in self._ready)
        stand_ins = ((_tag(number), fd, ShareKind.EROFS) for number, fd in enumerate(self._placeholders))
        return tuple(Attachment(*each) for each in (*shares, *stand_ins))

    def start(self) -> None:
        """Start the servers, from the thread that will live as long. Raises ProcessError.

        Where it is counted what the guest writes, RefusedError [limit-unavailable] when that can't be done.
        """
        for _, server in self._servers:
            server.start()
        for share, server in self._counted:
            server.entered()
            _refuse_unless(server.written() is not None, f"the server of {share.guest}")

    def written(self) -> int | None:
        """How many bytes the servers have written for the guest so far; None where that can't be told any more.

        And those that their sandboxes took to make, some dozens.
        """
        each = [server.written() for _, server in self._counted]
        return None if None in each else sum(filter(None, each))

    @property
    def _counted(self) -> tuple[tuple[Share, Server], ...]:
        return tuple((share, server) for share, server in self._servers if self._limited and share.writable)

    def kill_soon(self) -> None:
        """End the servers, without waiting for that: what the guest still asks of them isn't done any more."""
        for _, server in self._servers:
            server.kill_soon()

    def watch(self, loop: Loop, ended: Callable[[], None]) -> None:
        """Have `ended` called when a server ends by itself: what the guest has of it is gone."""
        for _, server in self._servers:
            server.watch(loop, ended)

    def release(self) -> None:
        """Close what is the hypervisor's, once it has it or will never have it."""
        for it in self._ready:
            it.source.release()
        while self._placeholders:
            os.close(self._placeholders.pop())
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None

    @property
    def shared(self) -> tuple[ShareRecord, ...]:
        """For the receipt, once they are started."""
        return tuple(it.shared() for it in self._ready)

    @property
    def servers(self) -> tuple[int, ...]:
        """The process ids of the servers that run."""
        return tuple(server.pid for _, server in self._servers if server.pid is not None)

    @property
    def last_words(self) -> tuple[str, ...]:
        """What the servers complained about, escaped, each line with its directory's place in the guest."""
        return tuple(f"{share.guest}: {line}" for share, server in self._servers for line in server.last_words)

    def failure(self) -> ProcessError | None:
        """That of the first server that complained."""
        return next((failure for _, server in self._servers if (failure := server.failure()) is not None), None)

    def close(self, loop: Loop | None = None) -> None:
        """End the servers, and let go of everything; `loop` watched them. A second call does nothing."""
        self.release()
        for _, server in self._servers:
            server.close(loop)
        self._ready = []


def _tag(number: int) -> str:
    """By what the guest knows a share: of machines that start from one template, the same."""
    return f"share{number}"


def _judge(shares: Sequence[Share], given: ShareContext) -> dict[str, int]:
    """By its place in the guest, a descriptor of each directory; raises with all that stands against them at once."""
    if not shares:
        return {}
    found = given.open_shares(shares)
    for share in shares:
        if (fd := found.directories.get(share.guest)) is not None:
            try:
                refuse_dangers(share, fd, given.own)
            except RefusedError as refused:
                found.reasons += refused.reasons
    if found.reasons:
        found.close()
        raise RefusedError(*found.reasons)
    for fd in found.proofs.values():
        os.close(fd)
    return found.directories


def _refuse_unless(counted: bool, who: str) -> None:
    """A limit that can't be kept is refused: RefusedError [limit-unavailable]."""
    if not counted:
        why = f"the kernel doesn't tell how much {who} writes (/proc/PID/io)"
        hint = "docs/reference/shares.md says what that needs; or make a plan without --share-limit"
        raise refuse(ReasonCode.LIMIT_UNAVAILABLE, "the plan's limits", why, hint)


def _memory(size: int) -> int:
    """Memory of this size as a file whose size can't change any more: a smaller one would end processes that map it."""
    memory = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


#: Seconds between two looks: what is written meanwhile is not noticed in time.
LOOK: Final = 0.1


class WriteQuota:
    """Watches until it is cancelled, or has called `reached`, once. `written` and `most` are bytes.

    What can't be counted any more, for which `written` answers None, is as bad as too much.
    """

    def __init__(self, loop: Loop, written: Callable[[], int | None], most: int, reached: Callable[[], None]) -> None:
        self._loop = loop
        self._written = written
        self._most = most
        self._reached = reached
        self._timer = loop.after(LOOK, self._look)

    def _look(self) -> None:
        written = self._written()
        if written is None or written >= self._most:
            self._reached()
        else:
            self._timer = self._loop.after(LOOK, self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._timer.cancel()
