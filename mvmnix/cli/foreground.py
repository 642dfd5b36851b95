"""Runs a machine in the caller's terminal: its standard streams are the workload's."""

from dataclasses import dataclass

import click

from mvmnix.cli.telling import escape
from mvmnix.launch.commands import ExitStatus
from mvmnix.launch.endpoints import FdSink
from mvmnix.launch.host import Host
from mvmnix.launch.machine import Machine
from mvmnix.launch.stream_frames import End
from mvmnix.launch.supervisor import Finished, supervise
from mvmnix.launch.verify import VerifiedPlan


@dataclass(frozen=True, slots=True)
class Done:
    """A machine that ran here, and how it ended."""

    machine: Machine
    finished: Finished


def notice(text: str) -> None:
    """A line for the user, on stderr."""
    click.secho(escape(f"mvm: {text}"), err=True, fg="yellow")


def run_here(plan: VerifiedPlan, host: Host, *, name: str) -> Done:
    """Start the machine, run the plan's command with our standard streams, and end it."""
    machines: list[Machine] = []

    def work(machine: Machine) -> ExitStatus:
        machines.append(machine)
        status = machine.run(stdout=FdSink(host.loop, 1), stderr=FdSink(host.loop, 2), stdin=0)
        if status.end is not End.EXITED:
            notice(f"the command did not end by itself: {status}")
        return status

    finished = supervise(plan, host, work, name=name)
    return Done(machines[0], finished)
