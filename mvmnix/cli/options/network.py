"""The options by which a plan says what a guest reaches over the network, and how a plan's network is shown."""

from collections.abc import Callable, Iterator
from functools import reduce, wraps
from typing import Any, Final

import click

from mvmnix.api import (
    ACKNOWLEDGEMENT_MEANINGS,
    DEFAULT_RATE,
    NETWORK_HINT,
    Action,
    ConnectionRate,
    Network,
    NetworkOptions,
    Plan,
    PresetChoice,
    PublishedPort,
    UpstreamProxy,
    WhenGatewayEnds,
    parse_rules,
)
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.errors import UsageError

_OPTIONS: Final = (
    click.option(
        "--allow",
        "allowed",
        multiple=True,
        metavar="RULE",
        help=(
            "Let the guest reach https://HOST[:PORT], http://HOST[:PORT][/PATH], tls:HOST:PORT or tcp:HOST:PORT. "
            "Default: nothing. May be repeated."
        ),
    ),
    click.option(
        "--deny",
        "denied",
        multiple=True,
        metavar="RULE",
        help="HOST[:PORT], or as --allow: it beats whatever allows. May be repeated.",
    ),
    click.option(
        "--allow-preset",
        "presets",
        multiple=True,
        metavar="NAME[,index=URL]",
        help=(
            "The rules and variables of presets/NAME.toml, or of apt, pip or npm: as configured here, or for the index "
            "at URL. May be repeated."
        ),
    ),
    click.option(
        "--publish",
        "-p",
        "published",
        multiple=True,
        metavar="[IP:]HOST:GUEST",
        help=(
            "Have the port HOST of this host lead to the guest's port GUEST; at localhost (127.0.0.1 and ::1) unless "
            "IP is said."
        ),
    ),
    click.option(
        "--network-proxy",
        metavar="HOST:PORT",
        help=(
            "Have the guest's connections go out by this proxy (CONNECT), which resolves names and judges addresses. "
            "HOST is its address where it is on this host or in its networks. No variable names one."
        ),
    ),
    click.option(
        "--connection-rate",
        metavar="PER_SECOND[:BURST]",
        default=DEFAULT_RATE.typed,
        show_default=True,
        help="How many new connections the guest may have made in a second, and at once; more are refused.",
    ),
    click.option(
        "--when-gateway-ends",
        type=EnumChoice(WhenGatewayEnds),
        default=WhenGatewayEnds.END.value,
        show_default=True,
        help="What becomes of the machine when its network's gateway ends unasked.",
    ),
)


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command is handed them as one argument `network`. Raises UsageError for what is no rule."""

    @wraps(command)
    def networked(
        *,
        allowed: tuple[str, ...],
        denied: tuple[str, ...],
        presets: tuple[str, ...],
        published: tuple[str, ...],
        network_proxy: str | None,
        connection_rate: str,
        when_gateway_ends: WhenGatewayEnds,
        **others: Any,
    ) -> Any:
        try:
            network = NetworkOptions(
                parse_rules(allowed, denied),
                tuple(map(PresetChoice.parse, presets)),
                tuple(map(PublishedPort.parse, published)),
                when_gateway_ends,
                UpstreamProxy.parse(network_proxy) if network_proxy is not None else None,
                ConnectionRate.parse(connection_rate),
            )
        except ValueError as error:
            raise UsageError(str(error), hint=NETWORK_HINT) from None
        return command(network=network, **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), networked)


def network_lines(plan: Plan) -> Iterator[str]:
    """For each rule and published port of a plan a line, and what was acknowledged."""
    if plan.network is not None:
        yield from rule_lines(plan.network)


def rule_lines(network: Network) -> Iterator[str]:
    """The same of a network."""
    for it in network.rules:
        does = "may reach" if it.action is Action.ALLOW else "may not reach"
        yield f"network: the guest {does} {it.typed} [{it.id}]"
        for word in it.acknowledged:
            yield f"acknowledged for {it.id}: {ACKNOWLEDGEMENT_MEANINGS[word]} [{word}]"
    for port in network.ports:
        yield f"network: {port.address} port {port.host} of this host leads to the guest's port {port.guest}"
    if network.proxy is not None:
        yield f"network: by the proxy {network.proxy.typed}, which resolves names; their addresses aren't judged here"
    rate = network.connection_rate
    yield f"network: {rate.burst} new connections at once, then {rate.per_second} a second"
    ends = network.when_gateway_ends is WhenGatewayEnds.END
    yield f"network: if its gateway ends, the machine {'ends' if ends else 'goes on without a network'}"
