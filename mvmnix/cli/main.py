"""The door: finds the asked command, imports only what it needs, and turns failures into words and exit codes."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn, override

import click

from mvmnix import __version__
from mvmnix.cli import option_hints
from mvmnix.cli.completers import COMPLETE
from mvmnix.cli.verbosity import set_up
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.system import disk_space, log, temporary, unmapped_owners
from mvmnix.system.child_causes import Cause, cause_of, hint_for

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Commands: module, attribute, one line of help. A module is imported when its command is asked for.
COMMANDS = {
    "audit": ("mvmnix.cli.commands.audit", "audit", "Read and check the audit log."),
    "build": ("mvmnix.cli.commands.build", "build", "Build an image inside the builder VM, and sign its provenance."),
    "builder": ("mvmnix.cli.commands.builder", "builder", "Have the builder image build itself, and compare."),
    "bundle": ("mvmnix.cli.commands.bundle", "bundle", "Export an image's signed bundles."),
    "completion": (
        "mvmnix.cli.commands.completion",
        "completion",
        "Print a script that completes commands, for a shell.",
    ),
    "create": ("mvmnix.cli.commands.create", "create", "Make a machine from a signed plan, without starting it."),
    "cool": ("mvmnix.cli.commands.snapshot", "cool", "Take a snapshot of a running machine, and end it."),
    "cp": ("mvmnix.cli.commands.cp", "cp", "Copy files into and out of a running machine."),
    "doctor": (
        "mvmnix.cli.commands.doctor",
        "doctor",
        "Say what works on this machine, what does not, and what to do.",
    ),
    "events": ("mvmnix.cli.commands.events", "events", "Print what happened to machines, and what happens."),
    "exec": ("mvmnix.cli.commands.exec", "exec_", "Run another command in a running machine."),
    "explain": ("mvmnix.cli.commands.explain", "explain", "Explain the code of a refusal."),
    "fork": ("mvmnix.cli.commands.restore", "fork", "Start machines that go on from a running one."),
    "help": ("mvmnix.cli.commands.about", "help_", "Print the help of a command."),
    "image": (
        "mvmnix.cli.commands.image",
        "image",
        "Pull OCI images by digest, and look after the images that are kept.",
    ),
    "init": ("mvmnix.cli.commands.init", "init", "Write a new flake that builds at once."),
    "inspect": ("mvmnix.cli.commands.ps", "inspect", "Print all that is known of a machine, as JSON."),
    "key": ("mvmnix.cli.commands.key", "key", "Make and show keys."),
    "kill": ("mvmnix.cli.commands.stop", "kill", "End a machine now, without asking its guest."),
    "launch": ("mvmnix.cli.commands.launch", "launch", "Start a machine from a signed plan."),
    "launcher": ("mvmnix.cli.commands.launcher", "launcher", "Show and end the processes that start machines."),
    "lint": ("mvmnix.cli.commands.lint", "lint", "Check a project's documents: claims without a test, and the like."),
    "lock": ("mvmnix.cli.commands.lock", "lock", "Make or update a flake's lock inside the builder VM."),
    "logs": ("mvmnix.cli.commands.logs", "logs", "Print what a machine's command printed, or its kernel's console."),
    "man": ("mvmnix.cli.commands.man", "man", "Print the manual page of a command."),
    "net": (
        "mvmnix.cli.commands.net",
        "net",
        "Show what a plan lets its guest reach, and say why something is refused.",
    ),
    "pause": ("mvmnix.cli.commands.stop", "pause", "Pause a running machine."),
    "pin": ("mvmnix.cli.commands.pin", "pin", "Pin packages and wheels by hash, and fetch what is pinned."),
    "plan": ("mvmnix.cli.commands.plan", "plan", "Make, sign, show and list plans."),
    "policy": (
        "mvmnix.cli.commands.policy",
        "policy",
        "Explain what a trust policy admits and why.",
    ),
    "port": ("mvmnix.cli.commands.port", "port", "List the published ports of a machine."),
    "ps": ("mvmnix.cli.commands.ps", "ps", "List machines."),
    "restore": ("mvmnix.cli.commands.restore", "restore", "Start a machine that goes on from a snapshot."),
    "resume": ("mvmnix.cli.commands.stop", "resume", "Resume a paused machine."),
    "rm": ("mvmnix.cli.commands.stop", "rm", "Remove a machine that has ended."),
    "run": (
        "mvmnix.cli.commands.run",
        "run",
        "Build, sign, plan, verify and launch, and exit with the guest's exit code.",
    ),
    "schema": (
        "mvmnix.cli.commands.schema",
        "schema",
        "Print the JSON Schema of a document, or list those that have one.",
    ),
    "shell": ("mvmnix.cli.commands.shell", "shell", "Open a terminal in a running machine."),
    "show": ("mvmnix.cli.commands.show", "show", "Show the evidence of an image, plan or machine, verified anew."),
    "snapshot": ("mvmnix.cli.commands.snapshot", "snapshot", "Keep running machines, sealed and signed."),
    "start": ("mvmnix.cli.commands.create", "start", "Start a machine that was created."),
    "stats": ("mvmnix.cli.commands.events", "stats", "Print what running machines use."),
    "stop": ("mvmnix.cli.commands.stop", "stop", "Stop a machine."),
    "store": ("mvmnix.cli.commands.store", "store", "Tidy the cache of downloads."),
    "system": (
        "mvmnix.cli.commands.system",
        "system",
        "Show the room on the disk that mvm takes, and give back what can be.",
    ),
    "thaw": ("mvmnix.cli.commands.restore", "thaw", "Start a machine that goes on from where one was cooled."),
    "trusted-root": (
        "mvmnix.cli.commands.bundle",
        "trusted_root_",
        "Export trust roots, for where there is no network.",
    ),
    "pool": ("mvmnix.cli.commands.pool", "pool", "Keep machines waiting, which starts then take."),
    "warm": ("mvmnix.cli.commands.warm", "warm", "Make templates, from which machines start without a boot."),
    "verify": (
        "mvmnix.cli.commands.verify",
        "verify",
        "Verify files of any build, or an image, against who signed for them.",
    ),
    "version": ("mvmnix.cli.commands.about", "version", "Print the versions of mvm and of what it runs on."),
    "volume": ("mvmnix.cli.commands.volume", "volume", "List the data disks and shared directories of machines."),
    "wait": ("mvmnix.cli.commands.ps", "wait", "Wait until a machine has ended, and print its exit code."),
}
#: Second names that users of podman type, each with the words of the command that it is.
ALIASES: Final = {
    "images": "image ls",
    "pull": "image pull",
    "rmi": "image rm",
    "unpause": "resume",
}
COMMANDS |= {alias: (*COMMANDS[words.split()[0]][:2], f"The same as mvm {words}.") for alias, words in ALIASES.items()}

#: As a shell shows the end of a program by SIGPIPE: its output was closed, and nothing else went wrong.
_READER_GONE: Final = 128 + signal.SIGPIPE


class LazyGroup(option_hints.HintingGroup):
    """A group that imports a command when it is asked for."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        with _no_collection():
            command = getattr(importlib.import_module(module), attribute)
        for word in ALIASES.get(cmd_name, "").split()[1:]:
            command = command.get_command(ctx, word)
        return command if isinstance(command, click.Command) else None

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only shells that ask pay for it

        found = (name for name in sorted(COMMANDS) if name.startswith(incomplete))
        return [
            *(CompletionItem(name, help=COMMANDS[name][2]) for name in found),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (("Commands", COMMANDS.keys() - ALIASES), ("Aliases", ALIASES)):
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(names)])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage while modules are loaded, a twelfth of the time, nor in what they make: nearly all stays."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvm", message="%(prog)s %(version)s")
@click.option("--quiet", is_flag=True, help="No notices and no progress on stderr; failures are told all the same.")
@click.option(
    "--verbose",
    count=True,
    help="Say on stderr what is done; twice, in detail. For plain users also: MVMNIX_LOG=info|debug.",
)
@click.option("--user", metavar="NAME", default="", help="As root: run as this user. Default: mvmnix.")
@click.pass_context
def cli(context: click.Context, quiet: bool, verbose: int, user: str) -> None:
    """From a pinned flake to a verified, running microVM, with evidence for each step."""
    context.obj = set_up(quiet, verbose, os.environ)
    log.info("cli", "command %s", context.invoked_subcommand)
    _tell_of_user(user)


def main() -> None:
    """Become a system user, where this process is root's, and run the command line (docs/reference/privileges.md)."""
    try:
        run(_leave_root)
    finally:
        gc.freeze()  # the interpreter, at its end, would look for garbage in all that it loaded


def run(first: Callable[[], None] = lambda: None) -> None:
    """Run the command line, behind `first`, in this process; exit codes are those of mvmnix/errors.py."""
    hold_standard_streams()
    if COMPLETE in os.environ and not sys.argv[1:]:  # what has words is a command, whatever the environment says
        _complete(first)
    status = _run(first)
    _discard_unwritten()
    sys.exit(status)


def _complete(first: Callable[[], None]) -> NoReturn:
    """Answer a shell, which is told of no failure, and of nothing else."""
    from mvmnix.cli.commands.completion import answer_shell  # noqa: PLC0415 - only shells that ask pay for it

    with suppress(MvmnixError):
        first()
        answer_shell(cli, os.environ[COMPLETE])
    _discard_unwritten()
    sys.exit(0)


def _run(first: Callable[[], None]) -> int:
    """The exit code of the command that was asked for, once everything that it said is written."""
    try:
        unmapped_owners.refuse_unmapped()
        first()
        os.environ.update(temporary.judged(os.environ))  # for our children, too
        status = cli.main(prog_name="mvm", standalone_mode=False, complete_var="")
        if sys.stdout is not None:
            sys.stdout.flush()  # the interpreter's own flush, at its end, could only fail with 120
    except SystemExit:  # click's own way out, with 1, of what can't be written into a closed pipe or socket
        return _READER_GONE if _is_reader_gone() else MvmnixError.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        if isinstance(error, click.NoSuchCommand | click.NoSuchOption):
            option_hints.keep_nearest(error)
        with suppress(OSError):
            error.show()
        return 2
    except Exception as error:  # noqa: BLE001 - never an exit code that means something else
        if isinstance(error, BrokenPipeError) and _is_reader_gone():
            return _READER_GONE
        return _tell(_failure(error))
    log.debug("cli", "exit code %s", status or 0)
    return status if isinstance(status, int) else 0


def _is_reader_gone() -> bool:
    from mvmnix.cli.output import is_reader_gone  # noqa: PLC0415 - only failures pay for it

    return is_reader_gone()


def _leave_root() -> None:
    """As root: be another user from here on, before anything is read but the command line; options read nothing."""
    if 0 in os.getresuid() and (COMPLETE in os.environ or not all(word.startswith("-") for word in sys.argv[1:])):
        from mvmnix.cli import as_root  # noqa: PLC0415 - plain users don't pay for it

        as_root.leave(sys.argv[1:], COMMANDS)


def _tell_of_user(asked: str) -> None:
    """Say what came of the step, if it was taken. Raises UsageError where another user is asked for than this one."""
    as_root = sys.modules.get("mvmnix.cli.as_root")
    if as_root is not None:
        as_root.tell()
    if asked:
        from mvmnix.system.trusted_path import user_name  # noqa: PLC0415 - few ask for it

        if asked != (own := user_name(os.geteuid())):
            raise UsageError(f"--user {asked} is for root alone, and this is {own}", hint="leave it out, or use sudo")


def _discard_unwritten() -> None:
    """Drop what a full device or a closed pipe didn't take: the interpreter would try again, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            unread = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(unread, stream.fileno())
            os.close(unread)


def hold_standard_streams() -> None:
    """Let no file of ours be opened as 0, 1 or 2 where the caller closed one: a guest's words would be written into it.

    What takes the place fails to be read or written, as a closed one does (gnulib: stdopen).
    """
    for wanted, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(wanted)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest number that is free: this one


def _failure(error: Exception) -> MvmnixError:
    match error:
        case MvmnixError():
            return error
        case OSError() if (full := disk_space.failure(error, _directories())) is not None:
            return full
        case OSError():
            return MvmnixError(f"{error.filename or 'the system'}: {error.strerror}", hint=_hint_for_system(error))
        case _:
            return MvmnixError(f"unexpected {type(error).__name__}: {error}", hint="report this as a bug")


def _hint_for_system(error: OSError) -> str:
    """What to do about a system call that failed, by its errno."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "see that the path exists"
        case FileExistsError() | IsADirectoryError():
            return "see what is there: ls -ld"
        case _:
            cause = cause_of(1, str(error.strerror))
            return "see what `dmesg` says of it, as root" if cause is Cause.OWN else hint_for(cause, "")


def _directories() -> tuple[str, ...]:
    """Where mvm writes: its own directories, and that of temporary files."""
    import tempfile  # noqa: PLC0415 - only failures pay for it

    from mvmnix.system.roots import Roots  # noqa: PLC0415

    try:
        return (*Roots.from_environment(os.environ).paths.values(), tempfile.gettempdir())
    except (MvmnixError, OSError):
        return ()


def _tell(error: MvmnixError) -> int:
    """Tell it on stderr, if that takes it; returns its exit code in any case."""
    from mvmnix.api import keep_failure  # noqa: PLC0415 - only failures pay for it
    from mvmnix.cli.output import tell  # noqa: PLC0415

    if os.geteuid() != 0:  # else it is the step that failed: nothing is written as root
        keep_failure(error)
    with suppress(OSError):
        tell(error)
    return error.exit_code
