"""Names what there is instead of a command or an option that podman has and mvm lacks, or that a plan decides."""

from collections.abc import Mapping
from typing import Final, override

import click

from mvmnix.cli.help_groups import GroupedCommand
from mvmnix.errors import UsageError

_NETWORK: Final = (
    "a plan names what its guest reaches, --allow https://api.example.com, and its ports, --publish 8080:80"
)
#: Options of podman-run(1), and one that mvm had, that no command here has: why, and what there is instead.
_ABSENT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("-P", "--publish-all", "--network", "--net"), _NETWORK),
    "--cpus": "processors are whole here: --vcpus, where a plan is made; --cpu-percent bounds what they use",
    "--entrypoint": "a command behind -- replaces the image's own as a whole",
    "--env-file": "give each variable with --env, and each secret with --secret-env",
    "--mount": "--share SRC:DST[:ro|rw], and --data SIZE:PATH for a disk of its own",
    "--privileged": "a workload is never root, and a guest gets nothing of its host but what its plan names",
    **dict.fromkeys(("--quiet", "--verbose"), "it stands before the command, behind mvm itself"),
    "--terminal": "the guest's raw bytes are --raw now; a terminal in the guest is `mvm exec -it` or `mvm shell`",
}

#: Commands of podman(1), and words for one, that mvm has under another name or in another way; nothing of a machine's
#: disk outlives the machine.
ABSENT_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ls", "list"), "machines are listed by `mvm ps`, images by `mvm images`"),
    **dict.fromkeys(("delete", "remove"), "machines are removed by `mvm rm`, images by `mvm rmi`"),
    **dict.fromkeys(("container", "vm", "machine"), "machines have commands without a group: `mvm ps`, `mvm inspect`"),
    **dict.fromkeys(("network", "ports"), "`mvm net` shows what a machine may reach, `mvm port` its published ports"),
    **dict.fromkeys(("push", "tag", "commit", "import"), "an image is what its flake builds: `mvm build`"),
    **dict.fromkeys(("login", "logout"), "no registry that wants a login is asked: docs/reference/oci.md"),
    **dict.fromkeys(("prune", "df"), "`mvm system prune` and `mvm system df`"),
    **dict.fromkeys(("ssh", "console"), "`mvm shell` opens a terminal, `mvm logs --console` prints the console"),
    "attach": "`mvm logs --follow` prints what its command prints, `mvm exec` and `mvm shell` run others",
    "diff": "a machine's root filesystem is read only",
    "export": "`mvm cp MACHINE:PATH -` prints a tar stream",
    "history": "`mvm show` has the evidence of an image",
    "info": "`mvm doctor` looks at this host, `mvm version` prints versions",
    "load": "`mvm image load`",
    "rename": "a machine keeps its name: `mvm run --name`",
    "restart": "a machine starts once: `mvm run` makes another",
    "save": "`mvm image save`",
    "search": "no registry is searched: `mvm pull oci://HOST/NAME@sha256:DIGEST`",
    "top": "`mvm stats` prints what machines use",
    "update": "a signed plan isn't changed; `mvm lock` updates the inputs of a flake",
    **dict.fromkeys(
        ("volume create", "volume import", "volume mount"),
        "a disk is made with its machine: `mvm run --data 1g:/srv`",
    ),
    **dict.fromkeys(
        ("volume prune", "volume rm", "volume unmount"),
        "a data disk is gone when its machine ends: `mvm stop MACHINE`",
    ),
    "volume export": "`mvm cp MACHINE:PATH -` prints a tar stream",
    "volume inspect": "`mvm volume ls --json MACHINE`",
    **dict.fromkeys(("warm list", "warm templates"), "templates are listed by `mvm warm ls`"),
    **dict.fromkeys(("warm delete", "warm remove"), "templates are removed by `mvm warm rm`"),
    **dict.fromkeys(("pool list", "pool ps"), "pools are listed by `mvm pool ls`"),
    **dict.fromkeys(("pool delete", "pool remove"), "pools are removed by `mvm pool rm`"),
    **dict.fromkeys(("pool create", "pool make", "pool add"), "a pool is made, or another size, by `mvm pool set`"),
}


def keep_nearest(error: click.NoSuchCommand | click.NoSuchOption) -> None:
    """Leave the one name to suggest that is nearest to the mistyped one; click suggests more distant ones, too."""
    from mvmnix.suggestion import find_nearest  # noqa: PLC0415 - only failures pay for it

    typed = error.command_name if isinstance(error, click.NoSuchCommand) else error.option_name
    if error.possibilities is not None:
        error.possibilities[:] = filter(None, [find_nearest(typed, error.possibilities)])


def refuse_absent(path: str) -> None:
    """Raise UsageError, with what there is instead, where a path of commands is one that another tool has."""
    if hint := ABSENT_COMMANDS.get(path.partition(" ")[2]):
        raise UsageError(f"there is no command {path}", hint=hint)


class HintingGroup(click.Group):
    """A group of commands of which other tools have more."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and any command that is listed may be what was meant.

        Raises UsageError, with what there is instead, for a command that another tool has.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            refuse_absent(f"{ctx.command_path} {error.command_name}")
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from error


class HintingCommand(click.Command):
    """A command that starts machines, or works in them."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does. Raises UsageError, with the remedy, for an option that another tool has."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if hint := self.hint(error.option_name):
                raise UsageError(f"{ctx.command_path} has no option {error.option_name}", hint=hint) from error
            raise

    def hint(self, option: str) -> str:
        """What to do instead of an option; "" where nothing is known."""
        return _ABSENT.get(option, "")


class PlanningCommand(GroupedCommand, HintingCommand):
    """A command that makes a plan, by options of which there are many."""


class SignedPlanCommand(HintingCommand):
    """One that works with a plan which is signed already, or with what runs by one: it can't change what that says."""

    @override
    def hint(self, option: str) -> str:
        from mvmnix.cli.options.plan import plan_option_names  # noqa: PLC0415 - it imports what makes plans

        if option not in plan_option_names():
            return super().hint(option)
        return (
            f"it changes what the guest may do, and the signed plan says that: `mvm plan create {option} … FLAKE` and "
            f"`mvm plan sign`, or `mvm run {option} … FLAKE`"
        )
