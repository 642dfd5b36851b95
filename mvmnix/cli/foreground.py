"""Runs a machine in the caller's terminal: its standard streams are the workload's, a terminal only as text."""

import os
from dataclasses import dataclass

from mvmnix.cli.raw import shape
from mvmnix.cli.telling import notice
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.channel.commands import ExitStatus
from mvmnix.launch.channel.endpoints import FdSink
from mvmnix.launch.channel.stream_frames import End
from mvmnix.launch.container.run import run_container
from mvmnix.launch.host import Host
from mvmnix.launch.loop import Loop
from mvmnix.launch.machine import Machine
from mvmnix.launch.supervisor import Finished, supervise
from mvmnix.launch.verify import VerifiedPlan


@dataclass(frozen=True, slots=True)
class Done:
    """A machine that ran here, None for a container, and how it ended."""

    machine: Machine | None
    finished: Finished


def output(loop: Loop, fd: int, *, raw: bool) -> FdSink:
    """Where a guest's bytes go: as they are into files and pipes; to a terminal as text, unless asked for raw."""
    return FdSink(loop, fd, shape(terminal=os.isatty(fd), raw=raw))


def run_here(plan: VerifiedPlan, host: Host, *, name: str = "", raw: bool, created: str = "") -> Done:
    """Start the machine, run the plan's command with our standard streams, and end it; a container's likewise.

    `created` is the id of a machine of `mvm create`; without it there is a new one.
    """
    out, err = output(host.loop, 1, raw=raw), output(host.loop, 2, raw=raw)
    if plan.plan.backend is Backend.CONTAINER:
        return Done(None, run_container(plan, host, stdout=out, stderr=err, stdin=0, name=name))
    machines: list[Machine] = []

    def work(machine: Machine) -> ExitStatus:
        machines.append(machine)
        status = machine.run(stdout=out, stderr=err, stdin=0)
        if status.end is not End.EXITED:
            notice(f"the command {plan.plan.workload.argv[0]!r} did not end by itself: it {status}")
        return status

    finished = supervise(plan, host, work, name=name, created=created)
    return Done(machines[0], finished)
