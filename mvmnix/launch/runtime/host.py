"""What a machine is given by its host, as one record of ports; nothing is done here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mvmnix.audit.record import Journal
from mvmnix.clock import now
from mvmnix.launch.gate.replay import Replay
from mvmnix.launch.means import Means
from mvmnix.launch.runtime.accelerator import KvmProbe, Notice
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.launch.templates.store import Templates
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.port import Hypervisor

#: Makes a bundle of a statement's bytes, with the host's key.
type Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The ports of a host. `machines` holds the machines' directories; `notice` takes a line of prose for the user.

    `jail` is where the hypervisor runs, and what serves its guest; `replay` says whether a plan may still start;
    `means` has what a plan names of its caller's; `templates` are those from which machines start warm, and
    `snapshots` those of machines that ran. `own` are the
    absolute paths of mvm's own directories, which no guest gets to see unless its plan says so.
    """

    hypervisor: Hypervisor
    jail: Jail
    kvm: KvmProbe
    journal: Journal
    sign: Sign
    machines: Directory
    replay: Replay
    notice: Notice
    means: Means
    templates: Templates
    snapshots: Snapshots
    own: tuple[str, ...] = ()
    clock: Callable[[], datetime] = now
    loop: Loop = field(default_factory=Loop)
