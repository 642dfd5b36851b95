"""The only place that says which backends this host has: what each one lacks, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.launch.container import crun
from mvmnix.launch.container.crun import Crun
from mvmnix.plan.backend import Backend
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import locate
from mvmnix.vmm.port import Hypervisor
from mvmnix.vmm.qemu import Qemu

_OTHERWISE: Final = "sign a plan with --backend qemu"
#: Of two hypervisors that plans may name, wherever they are installed: docs/reference/backends.md has all that is
#: missing.
_NO_VSOCK: Final = (
    "this version of mvm can't start it: the guest agent speaks virtio-serial, and this hypervisor has vsock alone"
)


@dataclass(frozen=True, slots=True)
class BackendProblem:
    """What stands against a backend, and what to do about it."""

    why: str
    hint: str


def lacks(backend: Backend) -> tuple[BackendProblem, ...]:
    """All that keeps a backend from starting a machine here; nothing does, when it is usable.

    What is installed and could be changed by others is lacking too.
    """
    match backend:
        case Backend.QEMU:
            return tuple(_of(Qemu.find))
        case Backend.FIRECRACKER | Backend.CLOUD_HYPERVISOR:
            return (BackendProblem(_NO_VSOCK, _OTHERWISE),)
        case Backend.CONTAINER:
            return _container()
        case _:
            assert_never(backend)


def find(backend: Backend) -> Hypervisor:
    """The backend that a plan names. Raises RefusedError [backend-unavailable] with all that it lacks.

    For QEMU, whose lack is the host's and not the plan's, it raises as `Qemu.find` does.
    """
    if backend is Backend.QEMU:
        return Qemu.find()
    missing = lacks(backend)
    if backend is Backend.CONTAINER and not missing:
        return Crun.find()
    what = "the plan's backend"
    raise RefusedError(
        *(Reason(ReasonCode.BACKEND_UNAVAILABLE, what, f"{backend}: {it.why}", it.hint) for it in missing)
    )


def _of(look: Callable[[], object]) -> Iterator[BackendProblem]:
    try:
        look()
    except MvmnixError as error:
        yield BackendProblem(error.message, error.hint)


def _container() -> tuple[BackendProblem, ...]:
    programs = (partial(locate, program) for program in crun.PROGRAMS)
    looks: tuple[Callable[[], object], ...] = (*programs, _refuse_without_ids)
    return tuple(problem for look in looks for problem in _of(look))


def _refuse_without_ids() -> None:
    SubordinateIds.find().refuse_container()
