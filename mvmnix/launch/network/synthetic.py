"""One address for each name that a guest has asked for, the same one for the machine's life; pure."""

from ipaddress import IPv4Address, IPv4Network
from typing import Final

_FIRST: Final = 2  # no name has the network's own address, nor one that looks like a router's
#: Names of one machine; a wildcard has no end.
MOST: Final = 16_384


class SyntheticAddresses:
    """Gives addresses of a network out in the order of the first question."""

    def __init__(self, network: IPv4Network, most: int = MOST) -> None:
        self._network = network
        self._most = min(most, network.num_addresses - _FIRST - 1)
        self._by_name: dict[str, IPv4Address] = {}
        self._by_address: dict[IPv4Address, str] = {}

    def address_of(self, name: str) -> IPv4Address | None:
        """The address of a name; None where there are no more."""
        known = self._by_name.get(name)
        if known is None and len(self._by_name) < self._most:
            known = self._network[_FIRST + len(self._by_name)]
            self._by_name[name] = known
            self._by_address[known] = name
        return known

    def name_of(self, address: IPv4Address) -> str | None:
        """The name that has this address; None where none was asked for."""
        return self._by_address.get(address)

    def __contains__(self, address: IPv4Address) -> bool:
        return address in self._network
