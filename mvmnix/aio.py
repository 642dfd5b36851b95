"""The asyncio face of the SDK: each call runs the steps of its operation on the loop that runs, and on no other.

What may block (opening state, a build, the start of a launcher) runs in that loop's default executor. Cancelling a task
ends the command that it waits for; a build goes on until it is done, and its image is kept.
"""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Protocol, Self, Unpack, overload

from mvmnix.audit.reading import SealedRecord
from mvmnix.launch.agent.file_entries import FileEntry
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.copy.records import CopyLimits
from mvmnix.machines.network_log import LoggedEvent, MissingEvents
from mvmnix.machines.receipt import Receipt
from mvmnix.sdk import commands, files, logs, sandbox, snapshots
from mvmnix.sdk.arguments import check_methods
from mvmnix.sdk.asyncio_commands import Process, Reader, Stream, Writer, begin_process
from mvmnix.sdk.asyncio_drive import run
from mvmnix.sdk.asyncio_images import Audit, Image, Plan, Pool, Snapshot, verify
from mvmnix.sdk.commands import CommandOptions, ExecOptions
from mvmnix.sdk.errors import Error
from mvmnix.sdk.machine import AttachedMachine, Machine, OwnMachine
from mvmnix.sdk.preparation import SandboxOptions, Source
from mvmnix.sdk.results import LogPiece, MachineEnd, MachineInfo, Result
from mvmnix.words import Words

__all__ = [
    "Audit",
    "Files",
    "Image",
    "Opener",
    "Plan",
    "Pool",
    "Process",
    "Reader",
    "Sandbox",
    "Snapshot",
    "Stream",
    "Writer",
    "initialize",
    "verify",
]


async def initialize() -> None:
    """Make keys and a trust policy for this user, unless there is a policy; a program does so once, if at all.

    Raises NotVerified where a policy was lost.
    """
    await run(sandbox.initialize())


class Closable(Protocol):
    """What is an asynchronous context manager."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *_: object) -> None: ...


class Opener[T: Closable]:
    """Opens something when it is awaited, or entered: `box = await …` or `async with … as box`."""

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._open = open_it
        self._stack = AsyncExitStack()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._open().__await__()

    async def __aenter__(self) -> T:
        made = await self._open()
        await self._stack.enter_async_context(made)
        return made

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


@check_methods
class Sandbox:
    """A running machine; an asynchronous context manager, which ends a machine of this program's when it is left.

    Made by `run`, `launch` and `attach` only. Any task of the loop may call it.
    """

    def __init__(self, machine: Machine) -> None:
        """Made by `run`, `launch` and `attach` only."""
        self._machine = machine
        #: Its files.
        self.files = Files(machine)

    @classmethod
    def run(
        cls,
        source: Source,
        *,
        name: str = "",
        private_launcher: bool = False,
        keep: bool = False,
        **options: Unpack[SandboxOptions],
    ) -> "Opener[Self]":
        """Start a machine for a flake ("./guest#attribute") or a kept image ("image:NAME"), built first if need be.

        Args:
            source: The flake's directory, or the image.
            name: The machine's name; two random words where it is left out.
            private_launcher: Start it from a child of this process, within its control group.
            keep: Keep what is written about the machine after its end, until it is removed; else the last 50 are.
            **options: What the sandbox is given and held to (`SandboxOptions`).

        Raises:
            SetupMissing: There are no keys and no policy yet.
            NotVerified, PolicyRefused, NotGranted: With the reasons that the command line has.
            InvalidArgument, TypeError: An argument is invalid.

        """
        return Opener(lambda: cls._of(sandbox.run(source, name, options, private=private_launcher, keep=keep)))

    @classmethod
    def launch(
        cls,
        plan: str | os.PathLike[str],
        *,
        name: str = "",
        image: str = "",
        vsa: str = "",
        private_launcher: bool = False,
        keep: bool = False,
    ) -> "Opener[Self]":
        """Start a machine from a plan that is signed already: a file, or "plan:DIGEST" for one that is kept.

        Args:
            plan: The plan.
            name: As for `run`; so are `private_launcher` and `keep`.
            image: A directory of an exported image, for one that isn't kept here.
            vsa: With `image`, a verifier's summary in place of its evidence.
            private_launcher: As for `run`.
            keep: As for `run`.

        Raises:
            SetupMissing, NotVerified, PolicyRefused, InvalidArgument: As `run`.

        """
        return Opener(
            lambda: cls._of(sandbox.launch(plan, name, image=image, vsa=vsa, private=private_launcher, keep=keep))
        )

    @classmethod
    def restore(
        cls, snapshot: str, *, name: str = "", private_launcher: bool = False, keep: bool = False
    ) -> "Opener[Self]":
        """Start a machine that goes on from a snapshot (Preview); the gate verifies it, and its plan anew.

        Args:
            snapshot: Its id.
            name: As for `run`; so are `private_launcher` and `keep`.
            private_launcher: As for `run`.
            keep: As for `run`.

        Raises:
            NotFound: There is no such snapshot.
            NotVerified, PolicyRefused: It, or its plan, counts no more.

        """
        return Opener(lambda: cls._of(snapshots.restore(snapshot, name, private=private_launcher, keep=keep)))

    @classmethod
    def attach(cls, machine: str) -> "Opener[Self]":
        """Find a running machine by its name or id; leaving it ends nothing. Raises NotFound."""
        return Opener(lambda: cls._of(sandbox.attach(machine)))

    @classmethod
    async def _of(cls, steps: Steps[OwnMachine] | Steps[AttachedMachine]) -> Self:
        machine: Machine = await run(steps)
        return cls(machine)

    @staticmethod
    async def list(*, labels: Mapping[str, str] | None = None, ended: bool = False) -> tuple[MachineInfo, ...]:
        """Return this user's running machines with these labels, the oldest first; with `ended` all, cold ones too."""
        return await run(sandbox.list_machines(labels or {}, ended=ended))

    @property
    def id(self) -> str:
        """Its id: 12 hexadecimal digits."""
        return self._machine.id

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its plan."""
        return self._machine.labels

    @property
    def verbs(self) -> frozenset[str]:
        """What its plan grants, of "exec", "shell", "copy" and "snapshot"."""
        return frozenset(map(str, self._machine.verbs))

    @overload
    async def exec(
        self, argv: Words, *, text: Literal[False] = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes]: ...
    @overload
    async def exec(
        self, argv: Words, *, text: Literal[True], check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[str]: ...
    async def exec(
        self, argv: Words, *, text: bool = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes] | Result[str]:
        """Run a command to its end, as a list of words that no shell reads.

        Args:
            argv: The program, found by the guest's PATH, and its arguments.
            text: Return its output as text: UTF-8, with a replacement character for what is none.
            check: Raise CommandFailed for an exit code other than 0.
            **options: What it is given, and held to (`ExecOptions`).

        Raises:
            NotGranted: The plan doesn't grant the verb exec; nothing was sent.
            TimedOut, OutputLimitExceeded: It was killed; the error has the beginning of its output.
            FileNotFound, GuestFailed: It never ran.
            NotRunning, OutcomeUnknown: The machine had ended, or ended meanwhile.

        """
        return commands.finish(argv, await run(commands.execute(self._machine, argv, options)), text=text, check=check)

    @overload
    async def shell(
        self, script: str, *, text: Literal[False] = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes]: ...
    @overload
    async def shell(
        self, script: str, *, text: Literal[True], check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[str]: ...
    async def shell(
        self, script: str, *, text: bool = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes] | Result[str]:
        """Have the guest's `sh` read a line, or a script; otherwise as `exec`."""
        argv = commands.shell_words(script)
        return commands.finish(argv, await run(commands.execute(self._machine, argv, options)), text=text, check=check)

    def stream(self, argv: Words, **options: Unpack[ExecOptions]) -> Stream:
        """Run a command, and iterate over its output as it comes, then its end. Raises as `exec` does."""
        return Stream(commands.CommandStream(self._machine, argv, options))

    def popen(self, argv: Words, **options: Unpack[CommandOptions]) -> "Opener[Process]":
        """Begin a command, with pipes for its streams. Raises as `exec`, but of a missing program `wait` tells."""
        return Opener(lambda: begin_process(commands.open_process(self._machine, argv, options)))

    def terminal(
        self, argv: Words = (), *, term: str = "xterm-256color", rows: int = 24, columns: int = 80
    ) -> "Opener[Process]":
        """Begin a command, or the image's own shell, in a terminal in the guest; its output is one stream, `stdout`.

        Raises NotGranted without the verb shell, and as `exec` does.
        """
        return Opener(lambda: begin_process(commands.open_terminal(self._machine, argv, term, rows, columns)))

    async def wait(self, timeout: float | None = None) -> MachineEnd:
        """Wait for the machine's end, at most so many seconds. Raises TimedOut."""
        return await run(self._machine.wait(timeout))

    async def stop(self) -> None:
        """End the machine: its guest is asked first. Returns when it has ended."""
        await run(sandbox.stop(self._machine, now=False))

    async def kill(self) -> None:
        """End the machine at once. Returns when it has ended."""
        await run(sandbox.stop(self._machine, now=True))

    async def pause(self) -> None:
        """Have the guest stand still. Raises InvalidArgument where it does."""
        await run(sandbox.set_paused(self._machine, paused=True))

    async def resume(self) -> None:
        """Have the guest go on. Raises InvalidArgument where it does."""
        await run(sandbox.set_paused(self._machine, paused=False))

    async def snapshot(self) -> Snapshot:
        """Take a snapshot of the machine (Preview), which goes on; its commands stand still meanwhile.

        Raises NotGranted without the verb snapshot, PolicyRefused for a machine that can't have one.
        """
        return Snapshot(*snapshots.facts(await run(snapshots.take(self._machine, ends=False))))

    async def cool(self) -> Snapshot:
        """Take a snapshot as `snapshot` does, and end the machine with it: it takes no memory then."""
        return Snapshot(*snapshots.facts(await run(snapshots.take(self._machine, ends=True))))

    async def fork(self, count: int) -> tuple[Self | Error, ...]:
        """Start machines that go on from where this one is (Preview), which goes on, too.

        Args:
            count: How many, 1 to 64.

        Returns:
            Each machine, to be left like one of `run`, or the error for which it didn't start.

        Raises:
            NotGranted, PolicyRefused: As `snapshot`; no machine was started.

        """
        made = await run(snapshots.fork(self._machine, count))
        return tuple(each if isinstance(each, Error) else type(self)(each) for each in made)

    async def extend(self, seconds: float) -> None:
        """Have the machine end in so many seconds, unless this is called again; not later than its `timeout`.

        Raises InvalidArgument for a time after that.
        """
        await run(sandbox.extend(self._machine, seconds))

    async def detach(self) -> None:
        """Have the machine go on without this program; `Sandbox.attach(box.id)` finds it again."""
        if isinstance(self._machine, OwnMachine):
            await run(self._machine.detach())
            self._machine = AttachedMachine(self._machine.id, self._machine.verbs, self._machine.labels)
            self.files = Files(self._machine)

    def logs(self, source: Literal["output", "console"] = "output", *, follow: bool = False) -> AsyncIterator[LogPiece]:
        """Iterate over what is kept of the plan's own command, or of the kernel's console; `follow`: up to the end."""
        return _read_all(logs.output(self._machine.id, source, follow=follow))

    def events(self, *, follow: bool = False) -> AsyncIterator[SealedRecord]:
        """Iterate over the audit log's records about the machine; `follow`: up to its end. Raises NotVerified."""
        return _read_all(logs.audit_records(self._machine.id, follow=follow))

    def network_log(self, *, follow: bool = False) -> AsyncIterator[LoggedEvent | MissingEvents]:
        """Iterate over what was allowed and refused on the machine's network; `follow`: up to its end."""
        return _read_all(logs.network_log(self._machine.id, follow=follow))

    async def receipt(self) -> Receipt:
        """Return the host's signed receipt, once the machine has ended. Raises Error before, NotVerified."""
        return await run(sandbox.receipt(self._machine))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await run(self._machine.leave())


async def _read_all[T](reader: logs.LogReader[T]) -> AsyncIterator[T]:
    try:
        while (found := await run(reader.read())) is not None:
            yield found
    finally:
        reader.close()


@check_methods
class Files:
    """The files of a machine, as the plan's user sees them; paths are relative to the plan's directory.

    Each call takes the verb copy, and raises FileFailed, by its errno, where the guest can't do it.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def read(self, path: str, *, limit: int = files.READ_LIMIT) -> bytes:
        """Return the bytes of a file. Raises OutputLimitExceeded for more than the limit."""
        return await run(files.read(self._machine, path, limit))

    async def read_text(self, path: str, *, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text of a file. Raises UnicodeDecodeError."""
        return (await self.read(path)).decode(encoding, errors)

    async def write(self, path: str, data: bytes, *, mode: int = files.NEW_MODE) -> None:
        """Write a file whose directory is there, or replace a regular one."""
        await run(files.write(self._machine, path, data, mode))

    async def write_text(self, path: str, text: str, *, encoding: str = "utf-8", mode: int = files.NEW_MODE) -> None:
        """Write a text, as `write` does."""
        await self.write(path, text.encode(encoding), mode=mode)

    async def upload(
        self,
        source: str | os.PathLike[str],
        path: str,
        *,
        replace: bool = True,
        leave_out: bool = False,
        limit_mib: int = files.COPY_LIMIT_MIB,
    ) -> Sequence[str]:
        """Copy a file or directory of this host into the guest; a directory at `path` gets it under its own name.

        Args:
            source: What is copied; links are not followed.
            path: Where to.
            replace: Whether a file replaces a regular file.
            leave_out: Leave out links and devices; otherwise they are refused.
            limit_mib: The most that is copied.

        Returns:
            What was left out.

        """
        limits = CopyLimits(size=limit_mib << 20, leaves_out=leave_out)
        return await run(files.upload(self._machine, source, path, limits, replaces=replace))

    async def download(
        self,
        path: str,
        target: str | os.PathLike[str],
        *,
        replace: bool = True,
        leave_out: bool = False,
        limit_mib: int = files.COPY_LIMIT_MIB,
    ) -> Sequence[str]:
        """Copy a file or directory of the guest to this host; otherwise as `upload`."""
        limits = CopyLimits(size=limit_mib << 20, leaves_out=leave_out)
        return await run(files.download(self._machine, path, target, limits, replaces=replace))

    async def list(self, path: str = ".") -> tuple[FileEntry, ...]:
        """Return what is in a directory, ordered by the bytes of the names: at most 65,536 entries."""
        return await run(files.list_directory(self._machine, path))

    async def stat(self, path: str) -> FileEntry:
        """Return what a path names; a link is not followed."""
        return await run(files.stat(self._machine, path))

    async def exists(self, path: str) -> bool:
        """Return whether a path names something, be it a link that leads nowhere."""
        return await run(files.exists(self._machine, path))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with `recursive` all that is in one, too."""
        await run(files.remove(self._machine, path, recursive=recursive))

    async def rename(self, path: str, target: str) -> None:
        """Rename a file or directory; a file of the new name is replaced."""
        await run(files.rename(self._machine, path, target))

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; with `parents` those above it, too, and one that is there is no failure."""
        await run(files.mkdir(self._machine, path, parents=parents))
