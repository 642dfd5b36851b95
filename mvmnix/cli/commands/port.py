"""`mvm port`: which ports of this host lead to which ports of a machine, as its plan says."""

import click

from mvmnix.api import find_network, open_context
from mvmnix.cli.completers import any_machine
from mvmnix.cli.output import TERMINAL, answer, json_option


@click.command()
@click.argument("machine", shell_complete=any_machine)
@json_option
def port(machine: str, *, as_json: bool) -> None:
    """Print the published ports of MACHINE, a line for each: the guest's port, and the host's address and port."""
    with open_context(TERMINAL) as context:
        network = find_network(context, machine)
    ports = () if network is None else network.ports
    if as_json:
        answer("ports", [{"guest": it.guest, "address": it.address, "host": it.host} for it in ports])
        return
    for it in ports:
        click.echo(f"{it.guest}/tcp -> {it.address}:{it.host}")
