"""Prints the options of a command that has many under headings."""

from typing import Final, override

import click

#: Headings, and under each its options in the order of the command; the others stand under Options, at the end.
GROUPS: Final = {
    "Machine": {
        "--accelerator",
        "--backend",
        "--detach",
        "--evidence",
        "--interactive",
        "--label",
        "--name",
        "--raw",
        "--rm",
        "--tty",
    },
    "Command": {"--env", "--user", "--workdir"},
    "Resources": {
        "--console-log",
        "--cpu-percent",
        "--cpu-weight",
        "--data",
        "--idle",
        "--memory",
        "--output-log",
        "--scratch",
        "--tasks",
        "--timeout",
        "--vcpus",
    },
    "Grants": {"--no-verbs", "--secret", "--secret-env", "--share", "--share-limit", "--system-calls", "--verb"},
    "Network": {
        "--allow",
        "--allow-preset",
        "--connection-rate",
        "--deny",
        "--network-proxy",
        "--publish",
        "--when-gateway-ends",
    },
}


class GroupedCommand(click.Command):
    """A command whose help has its options under headings."""

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        groups = {
            heading: [option for option in options if names & {*option.opts}] for heading, names in GROUPS.items()
        }
        grouped = [option for group in groups.values() for option in group]
        groups["Options"] = [option for option in options if option not in grouped]
        for heading, group in groups.items():
            if records := [record for option in group if (record := option.get_help_record(ctx)) is not None]:
                with formatter.section(heading):
                    formatter.write_dl(records)
