"""Says of an option that changes a plan where plans are made: what runs by a signed plan doesn't take it."""

from typing import override

import click

from mvmnix.errors import UsageError


class PlanDecides(click.Command):
    """A command that works with a plan which is signed already, or with what runs by one."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does. Raises UsageError, with the remedy, for an option that changes a plan."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from mvmnix.cli.plan_options import names  # noqa: PLC0415 - it imports what makes plans

            if error.option_name not in names():
                raise
            raise _told(error.option_name, ctx.command_path) from error


def _told(option: str, command: str) -> UsageError:
    return UsageError(
        f"{command} takes no {option}: it changes what the guest may do, and that is the signed plan's to say",
        hint=f"make a plan that says it: `mvm plan create {option} … FLAKE`, then `mvm plan sign`; or "
        f"`mvm run {option} … FLAKE`",
    )
