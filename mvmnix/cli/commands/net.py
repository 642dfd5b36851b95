"""`mvm net`: shows the network that a plan gives a guest, and says what its rules make of a connection."""

import json
import re

import click

from mvmnix.api import (
    EXPLANATIONS,
    Attempt,
    Denial,
    MissingEvents,
    Network,
    Protocol,
    Rules,
    compare_kept,
    find_machine,
    find_network,
    judge,
    open_context,
    open_machine_store,
    read_network_log,
    sentence,
)
from mvmnix.cli.completers import any_machine
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.cli.options.network import rule_lines
from mvmnix.cli.output import TERMINAL, answer, json_option, notice
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import escape_line
from mvmnix.plural import counted

_PLAN = click.argument("plan", metavar="MACHINE|PLAN", shell_complete=any_machine)
#: The exit code for what the rules refuse; mvm's own failures have others.
_REFUSED = 1
_LARGEST_PORT, _PORT = 65_535, re.compile(r"[1-9][0-9]{0,4}")
_NO_DEVICE = "the guest has no network device"


@click.group()
def net() -> None:
    """Show what guests may reach over the network, try it, and explain refusals. Nothing is started or connected."""


@net.command()
@_PLAN
@json_option
def show(plan: str, as_json: bool) -> None:
    """Print the rules that a machine or a plan (a file, or plan:DIGEST) has, in the order in which they stand there.

    Its signatures are not looked at: `mvm plan show` and `mvm show` do that.
    """
    network = _network(plan)
    if as_json:
        answer("network", None if network is None else {**network.shown, "digest": network.digest.hex})
        return
    click.echo(_NO_DEVICE if network is None else f"network: its digest is {network.digest}")
    for line in rule_lines(network) if network is not None else ():
        click.echo(escape_line(line))


@net.command()
@_PLAN
@click.argument("target", metavar="HOST:PORT")
@click.option("--protocol", type=EnumChoice(Protocol), help="Default: what the rules name.")
@click.option("--sni", metavar="NAME", help="The name in the TLS handshake; '' for none. Default: HOST.")
@click.option("--method", default="GET", show_default=True, help="Of an http request.")
@click.option("--path", default="/", show_default=True, help="Of an http request.")
@click.option("--header", "fields", multiple=True, metavar="'NAME: VALUE'", help="Of an http request. May be repeated.")
@click.option("--resolve", "addresses", multiple=True, metavar="ADDRESS", help="What HOST leads to. May be repeated.")
@json_option
def test(
    *,
    plan: str,
    target: str,
    protocol: Protocol | None,
    sni: str | None,
    method: str,
    path: str,
    fields: tuple[str, ...],
    addresses: tuple[str, ...],
    as_json: bool,
) -> int:
    """Say what would become of a connection of the guest's to HOST:PORT, by the rules of a machine or a plan.

    Nothing is resolved and nothing is connected. Exit codes: 0 allowed, 1 refused.
    """
    try:
        attempt = Attempt(*_host_and_port(target), protocol, sni, method, path, addresses, fields)
    except ValueError as error:
        raise UsageError(str(error), hint="mvm net test PLAN api.example.com:443") from error
    network, host = _network(plan), attempt.host
    if addresses and network is not None and network.proxy is not None:
        raise UsageError(f"names are resolved by the proxy {network.proxy.typed}", hint="leave --resolve out")
    verdict = judge(Rules(network), attempt)
    said = sentence(verdict, host, attempt.port, protocol, method) if verdict.code else f"{target} is allowed"
    if as_json:
        found = {"allowed": verdict.allowed, "rule": verdict.rule, "code": verdict.code, "text": said}
        answer("verdict", {"host": host, "port": attempt.port, **found})
    else:
        by = f" by {verdict.rule}" if verdict.allowed else f"; {_NO_DEVICE}" if network is None else ""
        click.echo(escape_line(said + by))
    return 0 if verdict.allowed else _REFUSED


@net.command()
@click.argument("machine", shell_complete=any_machine)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes from now on, until MACHINE has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
def log(machine: str, *, follow: bool, as_json: bool) -> None:
    """Print what MACHINE's guest asked of the network: each name and connection, and what became of it.

    What is kept is bounded, and the oldest is dropped, but for the first event of each rule and name. How many are
    missing is told on standard error. Of a machine that has ended it is the log that its receipt names, or refused.
    """
    with open_machine_store(TERMINAL) as here:
        has_ended = find_machine(here, machine).has_ended
        if has_ended:
            _compare(machine)
        for logged in read_network_log(here, machine, follow=follow):
            if isinstance(logged, MissingEvents):
                notice(_missing(logged))
            else:
                click.echo(json.dumps(logged.shown()) if as_json else escape_line(logged.text()))
        if not has_ended and find_machine(here, machine).has_ended:
            _compare(machine)


def _compare(machine: str) -> None:
    """Compare the log with the machine's receipt. Raises RefusedError."""
    with open_context(TERMINAL) as context:
        missing = compare_kept(context, machine)
    if missing is None:
        notice(f"the machine {machine} has no receipt that its log could be compared with")
    for name in missing or ():
        notice(f"the {name} of the machine {machine}, which its receipt names, is not kept any more")


def _missing(events: MissingEvents) -> str:
    said = f"{counted(events.count, 'event')} missing here: beyond the log's bound, or a full disk"
    if not events.others:
        return f"{said}; the first of each rule and name is above"
    return f"{said}; {counted(events.others, 'event')} of names beyond those that are kept apart"


@net.command()
@click.argument("code", type=EnumChoice(Denial), metavar="CODE")
@json_option
def explain(code: Denial, as_json: bool) -> None:
    """Say what the CODE of a refusal means, and what to do about it."""
    found = EXPLANATIONS[code]
    if as_json:
        answer("explanation", {"code": code, "meaning": found.meaning, "next": found.hint})
        return
    click.echo(f"{code}: {found.meaning}\n  next: {found.hint}")


def _host_and_port(text: str) -> tuple[str, int]:
    """Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None or int(port) > _LARGEST_PORT:
        raise ValueError(f"not HOST:PORT: {text[:80]!r}")
    return host, int(port)


def _network(text: str) -> Network | None:
    with open_context(TERMINAL) as context:
        return find_network(context, text)
