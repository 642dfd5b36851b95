"""Says what to do instead of an option that a command doesn't have, where podman has it or a plan decides it."""

from collections.abc import Mapping
from typing import Final, override

import click

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
    "--mount": "--share SRC:DST[:ro|rw], and --data MIB:PATH for a disk of its own",
    "--privileged": "a workload is never root, and a guest gets nothing of its host but what its plan names",
    **dict.fromkeys(("--quiet", "--verbose"), "it stands before the command, behind mvm itself"),
    "--terminal": "the guest's raw bytes are --raw now; a terminal in the guest is `mvm exec -it` or `mvm shell`",
}


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
