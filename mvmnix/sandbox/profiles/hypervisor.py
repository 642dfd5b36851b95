"""What QEMU may ask the kernel for, by what its sources need for all that a plan can demand; pure.

A trace under TCG alone would miss what KVM, a data disk or a share need, so each group says what it is for. How a new
QEMU is held against the list: docs/explanation/isolation.md. QEMU installs a filter of its own besides (`-sandbox`),
once it runs.
"""

import socket
from typing import Final

from mvmnix.sandbox.profiles import common
from mvmnix.sandbox.profiles.profile import INT, Profile, names, only

#: Disks and memory: the size of a memfd. What fallocate may do is among the conditions: a hole for what the guest gives
#: back, zeroes, blocks that are there beforehand, and nothing behind the end of a file.
_SIZE: Final = names("ftruncate")
#: The type byte of what is asked of KVM's device, its machine and its processors (linux/kvm.h).
_KVM: Final = 0xAE

HYPERVISOR: Final = Profile(
    allowed=common.ORDINARY | _SIZE,
    refused=common.REFUSED,
    conditions={
        **common.THREADS,
        **common.OWN,
        **common.commands(),
        **common.ROOM_ON_A_DISK,
        **common.requests(types=[_KVM]),
    },
)
#: What is asked of a tap interface that it was given (linux/if_tun.h): which one it is, which packets may come
#: unfinished, how much may wait, how large the header before each packet is. None sets a name, an owner or a filter.
_TUNGETIFF, _TUNSETOFFLOAD, _TUNSETSNDBUF, _TUNSETVNETHDRSZ = 0x800454D2, 0x400454D0, 0x400454D4, 0x400454D8
_NETWORK: Final = common.requests(_TUNGETIFF, _TUNSETOFFLOAD, _TUNSETSNDBUF, _TUNSETVNETHDRSZ, types=[_KVM])
#: With a server of files beside it (vhost-user) it makes socket pairs to give away. A pair has no name, and connects
#: only those that got its ends.
HYPERVISOR_WITH_SHARES: Final = HYPERVISOR.extended({"socketpair": only(0, INT, [socket.AF_UNIX])})
#: With a network device, whose interface lies in a namespace that it can't reach: it has the descriptor alone.
HYPERVISOR_WITH_NETWORK: Final = HYPERVISOR.extended(_NETWORK)
HYPERVISOR_WITH_SHARES_AND_NETWORK: Final = HYPERVISOR_WITH_SHARES.extended(_NETWORK)
