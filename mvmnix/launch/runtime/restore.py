"""Starts a machine whose guest goes on from a snapshot: the steps of start.py, with another guest.

Of these steps, 1 makes a network by the plan's rules, and opens the snapshot's sealed file, which is held against the
verified statement before any byte of it reaches a hypervisor: memory, data disk, the state of devices; 3 spends what
stands for the snapshot where the plan is for once; in 5 the hypervisor reads the saved guest; in 6 its network serves,
the guest renews its entropy, clock and name, and only then lets its commands go on.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.gate.snapshot import VerifiedSnapshot
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.runtime.start import (
    begun,
    ended_unless_ready,
    guest_config,
    machine_network,
    may_be_saved,
    named,
    refusals_logged,
    secret_versions,
    settled,
    spawned,
)
from mvmnix.launch.runtime.vm_process import Preparation
from mvmnix.launch.snapshots.restored_guest import RestoredGuest, SnapshotOrigin
from mvmnix.launch.snapshots.statement import SnapshotClaim
from mvmnix.launch.snapshots.store import KeptSnapshot
from mvmnix.launch.templates import guest_memory
from mvmnix.vmm.tsc import TscClock

_NO_SERVICES: Final[Mapping[int, ServiceFactory]] = {}


def restore_machine(snapshot: VerifiedSnapshot, kept: KeptSnapshot, host: Host, *, name: str = "") -> Machine:
    """Start what was verified; returns when the guest's commands go on.

    The snapshot stays the caller's, and open meanwhile; `kept` is as it was verified. Raises as `start_machine` does;
    RefusedError [snapshot-damaged, snapshot-forbidden, snapshot-secrets], which are logged.
    """
    plan, tsc = snapshot.plan, TscClock.start()
    host.templates.close()
    with refusals_logged(plan, host):
        config, versions, preparation = _prepared(snapshot, kept, host, tsc)
    observations = begun(plan, host, preparation, name, "")
    observations.secret_versions = versions
    machine = spawned(observations, preparation, _NO_SERVICES)
    with ended_unless_ready(machine, observations):
        machine.go_on(named(config, plan, observations.home))
    return machine


def _refuse_others(claim: SnapshotClaim, versions: tuple[str, ...]) -> None:
    """Refuse a snapshot whose guest has secrets that aren't what the plan's references lead to now."""
    if claim.secrets != versions:
        why = "a secret that its guest was told isn't what the plan's reference leads to now"
        hint = "start a machine, and take a snapshot anew; then remove this one"
        raise refuse(ReasonCode.SNAPSHOT_SECRETS, f"the snapshot {claim.id}", why, hint)


def _prepared(
    snapshot: VerifiedSnapshot, kept: KeptSnapshot, host: Host, tsc: TscClock
) -> tuple[GuestConfig, tuple[str, ...], Preparation]:
    """Return what the guest was told, without secrets; the versions of these; and the guest. Nothing is left open."""
    claim, plan = snapshot.claim, snapshot.plan
    spec = settled(plan, host, tsc)
    if not may_be_saved(plan, spec):
        if spec.kvm is not None:
            os.close(spec.kvm)
        why, hint = "a machine here would run under KVM", "start one that boots"
        raise refuse(ReasonCode.SNAPSHOT_FORBIDDEN, f"the snapshot {claim.id}", why, hint)
    with ExitStack() as undo:
        # before anything is unsealed, or any secret is read
        if (network := machine_network(plan, host)) is not None:
            undo.callback(network.close)
        config = guest_config(plan, host, (), ())
        guest = host.snapshots.unseal(kept, claim, host.machines)
        if guest.disk is not None:
            undo.callback(guest.disk.release)
        data = None if guest.disk is None else guest.disk.attachment
        files = SaveFiles(guest.memory, data)
        undo.callback(files.close)
        versions, config = secret_versions(plan, host, config), config.without_secrets()
        _refuse_others(claim, versions)
        state = guest_memory.sealed_state(guest.state)
        restored = RestoredGuest(SnapshotOrigin(claim.id, snapshot.digest), state, claim.hello, config)
        spec = replace(spec, tsc_khz=claim.tsc_khz, memory=files.backend, data=data)
        spec = replace(spec, restored=state, saves=files.state)
        where = (host.hypervisor, host.jail)
        preparation = Preparation(*where, spec, disk=guest.disk, network=network, restored=restored, files=files)
        undo.pop_all()
    return config, versions, preparation
