"""The only place that says which backends this host has: what each one lacks, and what to do about it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from mvmnix import caller
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.launch.backends import cloud_hypervisor, firecracker
from mvmnix.launch.backends.qemu import Qemu
from mvmnix.launch.container import Crun, crun
from mvmnix.launch.plan import Backend
from mvmnix.launch.runtime import KVM, kvm_access_hint
from mvmnix.launch.vmm import Hypervisor
from mvmnix.sandbox import Candidates, locate

_OTHERWISE: Final = "sign a plan with --backend qemu"
#: What keeps images of this version from these two, wherever they are installed.
_NO_VSOCK: Final = "the guest agent of this version speaks virtio-serial and not vsock, so no image reports there yet"
_ONLY_ROOT: Final = "its users are a range of the host's that only root can give away"


@dataclass(frozen=True, slots=True)
class BackendProblem:
    """What stands against a backend, and what to do about it."""

    why: str
    hint: str


def lacks(backend: Backend, *, kvm: str = KVM) -> tuple[BackendProblem, ...]:
    """All that keeps a backend from starting a machine here; nothing does, when it is usable.

    `kvm` is the device's path. What is installed and could be changed by others is lacking too.
    """
    match backend:
        case Backend.QEMU:
            return tuple(_of(Qemu.find))
        case Backend.FIRECRACKER:
            return _preview(firecracker.EXECUTABLES, kvm)
        case Backend.CLOUD_HYPERVISOR:
            return _preview(cloud_hypervisor.EXECUTABLES, kvm)
        case Backend.CONTAINER:
            return _container()
        case _:
            assert_never(backend)


def find(backend: Backend, *, kvm: str = KVM) -> Hypervisor:
    """The backend that a plan names. Raises RefusedError [backend-unavailable] with all that it lacks.

    For QEMU, whose lack is the host's and not the plan's, it raises as `Qemu.find` does.
    """
    if backend is Backend.QEMU:
        return Qemu.find()
    missing = lacks(backend, kvm=kvm)
    if backend is Backend.CONTAINER and not missing:
        return Crun.find()
    what = "the plan's backend"
    raise RefusedError(
        *(Reason(ReasonCode.BACKEND_UNAVAILABLE, what, f"{backend}: {it.why}", it.hint) for it in missing)
    )


def _preview(executables: Candidates, kvm: str) -> tuple[BackendProblem, ...]:
    return (*_of(lambda: locate(executables)), *_kvm(kvm), BackendProblem(_NO_VSOCK, _OTHERWISE))


def _of(look: Callable[[], object]) -> Iterator[BackendProblem]:
    try:
        look()
    except MvmnixError as error:
        yield BackendProblem(error.message, error.hint)


def _container() -> tuple[BackendProblem, ...]:
    missing = [lack for program in crun.PROGRAMS for lack in _of(partial(locate, program))]
    if caller.uid() != 0:
        missing.append(BackendProblem(_ONLY_ROOT, f"run mvm as root, or {_OTHERWISE}"))
    return tuple(missing)


def _kvm(device: str) -> Iterator[BackendProblem]:
    """It runs on KVM alone; whether a guest boots under it, only a guest can show."""
    if not os.path.exists(device):  # noqa: PTH110
        yield BackendProblem(f"there is no {device}", f"a host with hardware virtualization, or {_OTHERWISE}")
    elif not os.access(device, os.R_OK | os.W_OK):
        yield BackendProblem(f"{device} can't be opened by you", kvm_access_hint(device))
