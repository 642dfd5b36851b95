"""The blocking face of the SDK: each call runs the steps of its operation in the thread that calls it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, Self, Unpack, overload

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


def run[T](steps: Steps[T]) -> T:
    """Run the steps in this thread; what they raise is the SDK's."""
    return drivers.run(in_terms_of_the_sdk(steps))


def initialize() -> None:
    """Make keys and a trust policy for this user, unless there is a policy; a program does so once, if at all.

    Raises NotVerified where a policy was lost.
    """
    run(sandbox.initialize())


class Sandbox:
    """A running machine; a context manager, which ends a machine of this program's when it is left.

    Made by `run`, `launch` and `attach` only. Any thread may call it; a fork of this process may too, and its leaving
    ends nothing.
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
    ) -> Self:
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
        return cls(run(sandbox.run(source, name, options, private=private_launcher, keep=keep)))

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
    ) -> Self:
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
        return cls(run(started))

    @classmethod
    def attach(cls, machine: str) -> Self:
        """Find a running machine by its name or id; leaving it ends nothing. Raises NotFound."""
        return cls(run(sandbox.attach(machine)))

    @staticmethod
    def list(*, labels: Mapping[str, str] | None = None, ended: bool = False) -> tuple[MachineInfo, ...]:
        """Return this user's running machines with these labels, the oldest first; with `ended` all of them."""
        return run(sandbox.list_machines(labels or {}, ended=ended))

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
    def exec(
        self, argv: Sequence[str], *, text: Literal[False] = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes]: ...
    @overload
    def exec(
        self, argv: Sequence[str], *, text: Literal[True], check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[str]: ...
    def exec(
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
        return commands.finish(argv, run(commands.execute(self._machine, argv, options)), text=text, check=check)

    @overload
    def shell(
        self, script: str, *, text: Literal[False] = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes]: ...
    @overload
    def shell(
        self, script: str, *, text: Literal[True], check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[str]: ...
    def shell(
        self, script: str, *, text: bool = False, check: bool = False, **options: Unpack[ExecOptions]
    ) -> Result[bytes] | Result[str]:
        """Have the guest's `sh` read a line, or a script; otherwise as `exec`."""
        argv = commands.shell_words(script)
        return commands.finish(argv, run(commands.execute(self._machine, argv, options)), text=text, check=check)

    def stream(self, argv: Sequence[str], **options: Unpack[ExecOptions]) -> "Stream":
        """Run a command, and iterate over its output as it comes, then its end. Raises as `exec` does."""
        return Stream(commands.CommandStream(self._machine, argv, options))

    def popen(self, argv: Sequence[str], **options: Unpack[CommandOptions]) -> "Process":
        """Begin a command, with pipes for its streams. Raises as `exec` does."""
        return Process(run(commands.open_process(self._machine, argv, options)))

    def terminal(
        self, argv: Sequence[str] = (), *, term: str = "xterm-256color", rows: int = 24, columns: int = 80
    ) -> "Process":
        """Begin a command, or the image's own shell, in a terminal in the guest; its output is one stream, `stdout`.

        Raises NotGranted without the verb shell, and as `exec` does.
        """
        return Process(run(commands.open_terminal(self._machine, argv, term, rows, columns)))

    def wait(self, timeout: float | None = None) -> MachineEnd:
        """Wait for the machine's end, at most so many seconds. Raises TimedOut."""
        return run(self._machine.wait(timeout))

    def stop(self) -> None:
        """End the machine: its guest is asked first. Returns when it has ended."""
        run(sandbox.stop(self._machine, now=False))

    def kill(self) -> None:
        """End the machine at once. Returns when it has ended."""
        run(sandbox.stop(self._machine, now=True))

    def pause(self) -> None:
        """Have the guest stand still. Raises InvalidArgument where it does."""
        run(sandbox.set_paused(self._machine, paused=True))

    def resume(self) -> None:
        """Have the guest go on. Raises InvalidArgument where it does."""
        run(sandbox.set_paused(self._machine, paused=False))

    def detach(self) -> None:
        """Have the machine go on without this program; `Sandbox.attach(box.id)` finds it again."""
        if isinstance(self._machine, OwnMachine):
            run(self._machine.detach())
            self._machine = AttachedMachine(self._machine.id, self._machine.verbs, self._machine.labels)
            self.files = Files(self._machine)

    def logs(self, source: Literal["output", "console"] = "output", *, follow: bool = False) -> Iterator[LogPiece]:
        """Iterate over what is kept of the plan's own command, or of the kernel's console; `follow`: up to the end."""
        reader = sandbox.LogReader(self._machine, source, follow=follow)
        try:
            while (piece := run(reader.next_piece())) is not None:
                yield piece
        finally:
            reader.close()

    def events(self) -> tuple[SealedRecord, ...]:
        """Return the audit log's verified records about the machine, the oldest first. Raises NotVerified."""
        return run(sandbox.events(self._machine))

    def receipt(self) -> Receipt:
        """Return the host's signed receipt, once the machine has ended. Raises Error before, NotVerified."""
        return run(sandbox.receipt(self._machine))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run(self._machine.leave())


class Files:
    """The files of a machine, as the plan's user sees them; paths are relative to the plan's directory.

    Each call takes the verb copy, and raises FileFailed, by its errno, where the guest can't do it.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self, path: str, *, limit: int = files.READ_LIMIT) -> bytes:
        """Return the bytes of a file. Raises OutputLimitExceeded for more than the limit."""
        return run(files.read(self._machine, path, limit))

    def read_text(self, path: str, *, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text of a file. Raises UnicodeDecodeError."""
        return self.read(path).decode(encoding, errors)

    def write(self, path: str, data: bytes, *, mode: int = files.NEW_MODE) -> None:
        """Write a file whose directory is there, or replace a regular one."""
        run(files.write(self._machine, path, data, mode))

    def write_text(self, path: str, text: str, *, encoding: str = "utf-8", mode: int = files.NEW_MODE) -> None:
        """Write a text, as `write` does."""
        self.write(path, text.encode(encoding), mode=mode)

    def upload(
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
        return run(files.upload(self._machine, source, path, limits, replaces=replace))

    def download(
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
        return run(files.download(self._machine, path, target, limits, replaces=replace))

    def list(self, path: str = ".") -> tuple[FileEntry, ...]:
        """Return what is in a directory, ordered by the bytes of the names: at most 65,536 entries."""
        return run(files.list_directory(self._machine, path))

    def stat(self, path: str) -> FileEntry:
        """Return what a path names; a link is not followed."""
        return run(files.stat(self._machine, path))

    def exists(self, path: str) -> bool:
        """Return whether a path names something, be it a link that leads nowhere."""
        return run(files.exists(self._machine, path))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with `recursive` all that is in one, too."""
        run(files.remove(self._machine, path, recursive=recursive))

    def rename(self, path: str, target: str) -> None:
        """Rename a file or directory; a file of the new name is replaced."""
        run(files.rename(self._machine, path, target))

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; with `parents` those above it, too, and one that is there is no failure."""
        run(files.mkdir(self._machine, path, parents=parents))


class Stream:
    """The events of a command, in the order in which they came; an iterator, and a context manager.

    Leaving it, or `close`, ends the command. Read to its end it ends by itself.
    """

    def __init__(self, stream: commands.CommandStream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        if (event := run(self._stream.next_event())) is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End the command, if it still runs. A second call does nothing."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader:
    """What a command prints on one stream; an iterator of lines. One thread reads at a time."""

    def __init__(self, pipe: commands.PipeReader) -> None:
        self._pipe = pipe

    def read(self, size: int = -1) -> bytes:
        """Return what is there, at most `size` bytes, waiting for the first one; all up to the end for -1."""
        return run(self._pipe.read(size))

    def readline(self) -> bytes:
        """Return the next line with its line break; b"" at the end."""
        return run(self._pipe.readline())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        self._pipe.close()


class Writer:
    """Standard input of a command. One thread writes at a time."""

    def __init__(self, pipe: commands.PipeWriter) -> None:
        self._pipe = pipe

    def write(self, data: bytes) -> None:
        """Write all of it, waiting while the command doesn't read. Raises BrokenPipeError where it reads no more."""
        run(self._pipe.write(data))

    def close(self) -> None:
        """End standard input. A second call does nothing."""
        self._pipe.close()


class Process:
    """A command that runs in a machine; a context manager, which ends it when it is left before its end."""

    def __init__(self, process: commands.GuestProcess) -> None:
        """Made by `Sandbox.popen` and `Sandbox.terminal` only."""
        self._process = process
        self.stdin = Writer(process.stdin)
        self.stdout = Reader(process.stdout)
        self.stderr = Reader(process.stderr)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, once `wait` returned it."""
        return self._process.exit_code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds, and return its exit code. Raises TimedOut.

        What it prints has to be read meanwhile: a command whose pipe is full waits, too.
        """
        return run(self._process.wait(timeout))

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Image(ImageFacts):
    """An image that is kept here or was exported, as it was when it verified."""

    __slots__ = ()

    @classmethod
    def build(
        cls, source: str | os.PathLike[str], *, again: bool = False, out: str | os.PathLike[str] | None = None
    ) -> Self:
        """Build a flake's image in the builder VM, or find it finished; its provenance is signed and verified.

        Args:
            source: The flake's directory, perhaps with "#attribute".
            again: Build it even where a finished build is kept.
            out: A new directory, to which the image and its evidence are written.

        """
        return cls._of(run(work(partial(images.build, source, again=again, out=out))))

    @classmethod
    def find(cls, name: str) -> tuple[Self, ...]:
        """Return the kept images of this name, or digest or its beginning, each verified. Raises NotFound."""
        return tuple(map(cls._of, run(work(partial(images.find, name)))))

    @classmethod
    def list(cls) -> tuple[Self, ...]:
        """Return the kept images that verify, by every byte of them."""
        return tuple(map(cls._of, run(work(images.list_kept))))

    @classmethod
    def verify(cls, directory: str | os.PathLike[str], *, bundle: str = "") -> Self:
        """Take an exported image through every step of a launch, under this user's policy. Raises NotVerified."""
        return cls._of(run(work(partial(images.verify_directory, directory, bundle))))

    @classmethod
    def _of(cls, facts: ImageFacts) -> Self:
        return cls(facts.name, facts.digest, facts.level)


class Plan:
    """A plan that was drafted here: what may run, with what means, until when."""

    def __init__(self, plan: plans.Plan) -> None:
        """Made by `draft` only."""
        self._plan = plan

    @classmethod
    def draft(
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
        return cls(run(work(partial(images.draft, source, options, hours, single_use=single_use))))

    @property
    def statement(self) -> bytes:
        """The statement that is signed: canonical JSON."""
        return plans.plan_statement(self._plan).to_bytes()

    def sign(self, out: str | os.PathLike[str] | None = None) -> bytes:
        """Sign it with this user's key; return the bundle, which `Sandbox.launch` takes, and write it to a new file."""
        return run(work(partial(images.sign, self._plan, out)))


def verify(
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
    return run(work(partial(images.verify, artifacts, bundle, trust, wanted)))


class Audit:
    """This host's audit log."""

    @staticmethod
    def verify() -> AuditReport:
        """Verify every record against its seal, and all that is kept beside it. Raises NotVerified."""
        return run(work(images.check_audit))

    @staticmethod
    def events(machine: str = "", *, last: int | None = 20) -> tuple[SealedRecord, ...]:
        """Return the last verified records about machines, or about one; None: all of them."""
        return run(work(partial(images.audit_events, machine, last)))
