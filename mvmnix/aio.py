"""The asyncio face of the SDK: each call runs the steps of its operation on the loop that runs, and on no other.

What may block (opening state, a build, the start of a launcher) runs in that loop's default executor. Cancelling a task
ends the command that it waits for; a build goes on until it is done, and its image is kept.
"""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Literal, Protocol, Self, Unpack, overload

from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.audit.reading import SealedRecord
from mvmnix.launch.agent.file_entries import FileEntry
from mvmnix.launch.control import drivers
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.copy.records import CopyLimits
from mvmnix.machines.receipt import Receipt
from mvmnix.plan import plan as plans
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.sdk import commands, files, images, sandbox
from mvmnix.sdk.commands import CommandOptions, ExecOptions
from mvmnix.sdk.images import AuditReport, Verdict
from mvmnix.sdk.machine import AttachedMachine, Machine, OwnMachine, in_terms_of_the_sdk, work
from mvmnix.sdk.preparation import ImageFacts, SandboxOptions, Source
from mvmnix.sdk.results import LogPiece, MachineEnd, MachineInfo, Result, StreamEvent


async def run[T](steps: Steps[T]) -> T:
    """Run the steps on this loop; what they raise is the SDK's."""
    return await drivers.run_async(in_terms_of_the_sdk(steps))


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
            InvalidArgument, TypeError: What can't be meant.

        """
        steps = sandbox.run(source, name, options, private=private_launcher, keep=keep)
        return Opener(lambda: cls._of(steps))

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
        started = sandbox.launch(plan, name, image=image, vsa=vsa, private=private_launcher, keep=keep)
        return Opener(lambda: cls._of(started))

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
        """Return this user's running machines with these labels, the oldest first; with `ended` all of them."""
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
        """What its plan grants, of "exec", "shell" and "copy"."""
        return frozenset(map(str, self._machine.verbs))

    @overload
    async def exec(
        self, argv: Sequence[str], *, text: Literal[False] = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes]: ...
    @overload
    async def exec(
        self, argv: Sequence[str], *, text: Literal[True], check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[str]: ...
    async def exec(
        self, argv: Sequence[str], *, text: bool = False, check: bool = False, **options: Unpack[ExecOptions]
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

    def stream(self, argv: Sequence[str], **options: Unpack[ExecOptions]) -> "Stream":
        """Run a command, and iterate over its output as it comes, then its end. Raises as `exec` does."""
        return Stream(commands.CommandStream(self._machine, argv, options))

    def popen(self, argv: Sequence[str], **options: Unpack[CommandOptions]) -> "Opener[Process]":
        """Begin a command, with pipes for its streams. Raises as `exec` does."""
        return Opener(lambda: Process.of(commands.open_process(self._machine, argv, options)))

    def terminal(
        self, argv: Sequence[str] = (), *, term: str = "xterm-256color", rows: int = 24, columns: int = 80
    ) -> "Opener[Process]":
        """Begin a command, or the image's own shell, in a terminal in the guest; its output is one stream, `stdout`.

        Raises NotGranted without the verb shell, and as `exec` does.
        """
        return Opener(lambda: Process.of(commands.open_terminal(self._machine, argv, term, rows, columns)))

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

    async def detach(self) -> None:
        """Have the machine go on without this program; `Sandbox.attach(box.id)` finds it again."""
        if isinstance(self._machine, OwnMachine):
            await run(self._machine.detach())
            self._machine = AttachedMachine(self._machine.id, self._machine.verbs, self._machine.labels)
            self.files = Files(self._machine)

    async def logs(
        self, source: Literal["output", "console"] = "output", *, follow: bool = False
    ) -> AsyncIterator[LogPiece]:
        """Iterate over what is kept of the plan's own command, or of the kernel's console; `follow`: up to the end."""
        reader = sandbox.LogReader(self._machine, source, follow=follow)
        try:
            while (piece := await run(reader.next_piece())) is not None:
                yield piece
        finally:
            reader.close()

    async def events(self) -> tuple[SealedRecord, ...]:
        """Return the audit log's verified records about the machine, the oldest first. Raises NotVerified."""
        return await run(sandbox.events(self._machine))

    async def receipt(self) -> Receipt:
        """Return the host's signed receipt, once the machine has ended. Raises Error before, NotVerified."""
        return await run(sandbox.receipt(self._machine))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await run(self._machine.leave())


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


class Stream:
    """The events of a command, in the order in which they came; an asynchronous iterator and context manager.

    Leaving it, or `close`, ends the command. Read to its end it ends by itself.
    """

    def __init__(self, stream: commands.CommandStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if (event := await run(self._stream.next_event())) is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """End the command, if it still runs. A second call does nothing."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Reader:
    """What a command prints on one stream; an asynchronous iterator of lines. One task reads at a time."""

    def __init__(self, pipe: commands.PipeReader) -> None:
        self._pipe = pipe

    async def read(self, size: int = -1) -> bytes:
        """Return what is there, at most `size` bytes, waiting for the first one; all up to the end for -1."""
        return await run(self._pipe.read(size))

    async def readline(self) -> bytes:
        """Return the next line with its line break; b"" at the end."""
        return await run(self._pipe.readline())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        self._pipe.close()


class Writer:
    """Standard input of a command. One task writes at a time."""

    def __init__(self, pipe: commands.PipeWriter) -> None:
        self._pipe = pipe

    async def write(self, data: bytes) -> None:
        """Write all of it, waiting while the command doesn't read. Raises BrokenPipeError where it reads no more."""
        await run(self._pipe.write(data))

    def close(self) -> None:
        """End standard input. A second call does nothing."""
        self._pipe.close()


class Process:
    """A command that runs in a machine; an asynchronous context manager, which ends it if it is left before."""

    def __init__(self, process: commands.GuestProcess) -> None:
        """Made by `Sandbox.popen` and `Sandbox.terminal` only."""
        self._process = process
        self.stdin = Writer(process.stdin)
        self.stdout = Reader(process.stdout)
        self.stderr = Reader(process.stderr)

    @classmethod
    async def of(cls, steps: Steps[commands.GuestProcess]) -> Self:
        """Begin the command."""
        return cls(await run(steps))

    @property
    def exit_code(self) -> int | None:
        """Its exit code, once `wait` returned it."""
        return self._process.exit_code

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds, and return its exit code. Raises TimedOut.

        What it prints has to be read meanwhile: a command whose pipe is full waits, too.
        """
        return await run(self._process.wait(timeout))

    def signal(self, number: int) -> None:
        """Send it a Linux signal; without effect once it has ended."""
        self._process.signal(number)

    def kill(self) -> None:
        """End it at once; `wait` returns then."""
        self._process.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of its terminal; without effect where it has none."""
        self._process.resize(rows, columns)

    def close(self) -> None:
        """Close its pipes, and end it if it still runs. A second call does nothing."""
        self._process.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Image(ImageFacts):
    """An image that is kept here or was exported, as it was when it verified."""

    __slots__ = ()

    @classmethod
    async def build(
        cls, source: str | os.PathLike[str], *, again: bool = False, out: str | os.PathLike[str] | None = None
    ) -> Self:
        """Build a flake's image in the builder VM, or find it finished; its provenance is signed and verified.

        Args:
            source: The flake's directory, perhaps with "#attribute".
            again: Build it even where a finished build is kept.
            out: A new directory, to which the image and its evidence are written.

        """
        return cls._of(await run(work(partial(images.build, source, again=again, out=out))))

    @classmethod
    async def find(cls, name: str) -> tuple[Self, ...]:
        """Return the kept images of this name, or digest or its beginning, each verified. Raises NotFound."""
        return tuple(map(cls._of, await run(work(partial(images.find, name)))))

    @classmethod
    async def list(cls) -> tuple[Self, ...]:
        """Return the kept images that verify, by every byte of them."""
        return tuple(map(cls._of, await run(work(images.list_kept))))

    @classmethod
    async def verify(cls, directory: str | os.PathLike[str], *, bundle: str = "") -> Self:
        """Take an exported image through every step of a launch, under this user's policy. Raises NotVerified."""
        return cls._of(await run(work(partial(images.verify_directory, directory, bundle))))

    @classmethod
    def _of(cls, facts: ImageFacts) -> Self:
        return cls(facts.name, facts.digest, facts.level)


class Plan:
    """A plan that was drafted here: what may run, with what means, until when."""

    def __init__(self, plan: plans.Plan) -> None:
        """Made by `draft` only."""
        self._plan = plan

    @classmethod
    async def draft(
        cls, source: Source, *, hours: float | None = None, single_use: bool = False, **options: Unpack[SandboxOptions]
    ) -> Self:
        """Draft a plan for a flake or an image, which is built first if need be.

        Args:
            source: As for `Sandbox.run`.
            hours: How long it may start from now on; a day where it is left out.
            single_use: It starts one machine, once.
            **options: As for `Sandbox.run`; verbs are granted by name alone.

        Raises:
            PolicyRefused, NotGranted, InvalidArgument: As `Sandbox.run`.

        """
        return cls(await run(work(partial(images.draft, source, options, hours, single_use=single_use))))

    @property
    def statement(self) -> bytes:
        """The statement that is signed: canonical JSON."""
        return plans.plan_statement(self._plan).to_bytes()

    async def sign(self, out: str | os.PathLike[str] | None = None) -> bytes:
        """Sign it with this user's key; return the bundle, which `Sandbox.launch` takes, and write it to a new file."""
        return await run(work(partial(images.sign, self._plan, out)))


async def verify(
    artifacts: Sequence[str | os.PathLike[str]],
    *,
    bundle: str = "",
    key: str = "",
    identity: str = "",
    issuer: str = "",
    policy: str = "",
    source_uri: str | None = None,
    builder_id: str | None = None,
) -> tuple[Verdict, ...]:
    """Return for each file whether one of those signed for it whom the caller trusts; nothing is started or fetched.

    Args:
        artifacts: Paths, or "sha256:DIGEST".
        bundle: A file of bundles; for each file the one beside it where it is left out.
        key: Whom to trust: the file of a public key.
        identity: Or an identity that a certificate has, with its `issuer`.
        issuer: Who vouches for the identity.
        policy: Or a trust policy. One of the three has to be given.
        source_uri: What a statement has to say of the source.
        builder_id: What it has to say of the builder.

    Raises:
        InvalidArgument: No trust, or more than one; a file that is not there.

    """
    trust = TrustChoice(key=key, identity=identity, issuer=issuer, policy=policy)
    wanted = Requirements(source_uri=source_uri, builder_id=builder_id)
    return await run(work(partial(images.verify, artifacts, bundle, trust, wanted)))


class Audit:
    """This host's audit log."""

    @staticmethod
    async def verify() -> AuditReport:
        """Verify every record against its seal, and all that is kept beside it. Raises NotVerified."""
        return await run(work(images.check_audit))

    @staticmethod
    async def events(machine: str = "", *, last: int | None = 20) -> tuple[SealedRecord, ...]:
        """Return the last verified records about machines, or about one; None: all of them."""
        return await run(work(partial(images.audit_events, machine, last)))
