"""What `mvm doctor` says about guests' networks: a namespace is really made, as for a machine, and let go of again."""

import os
from collections.abc import Iterator
from dataclasses import replace

from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.launch.network.namespace import NFT, make_namespace
from mvmnix.sandbox.trusted_executables import locate


def network(_: Context) -> Iterator[Finding]:
    """Whether a plan with a network can start here; without one, all other plans can."""
    try:
        made = make_namespace(())
    except RefusedError as error:
        yield Finding("network", Health.NOTE, error.reasons[0].why, error.hint)
    except MvmnixError as error:
        failed = Finding.failed("network", error)
        yield replace(failed, health=Health.NOTE, said=f"no plan with a network can start: {failed.said}")
    else:
        made.close()
        os.close(made.tap)
        yield Finding("network", Health.GOOD, f"{locate(NFT)}; a namespace with a tap and rules can be made")
