"""The processes of a machine's network, which the product itself knows by descriptors."""

from mvmnix.network.host.setup import MachineNetwork


def process_ids(network: MachineNetwork) -> tuple[int, ...]:
    """The process ids of the gateway and the dialer, of those that run."""
    return tuple(one.pid for one in network._processes if one.pid is not None)
