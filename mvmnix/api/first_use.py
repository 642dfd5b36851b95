"""Makes keys and a trust policy on the first use, and tells a first use from a policy that was lost."""

from typing import Final, Protocol

from mvmnix.api import audit
from mvmnix.api.frontend import Frontend
from mvmnix.api.signing import key_file
from mvmnix.audit.log import AuditLog
from mvmnix.audit.record import Serials
from mvmnix.audit.tail import is_begun, put_away
from mvmnix.clock import now
from mvmnix.errors import Reason, ReasonCode, UsageError
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.policy.default_policy import default_policy
from mvmnix.provenance.policy.policy_files import is_there
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots

#: The keys of a workstation, and what each signs.
ROLES: Final = (Role.BUILDER, Role.PLANNER, Role.HOST)


class HostState(Protocol):
    """What of a context a first use reads and writes; `audit` and `journal` are opened when they are asked for."""

    roots: Roots
    frontend: Frontend

    @property
    def floor(self) -> str:
        """The directory of the machine's policy files."""

    @property
    def keys(self) -> Directory:
        """The directory of the private keys."""

    @property
    def audit(self) -> Directory:
        """The directory of the audit log."""

    @property
    def journal(self) -> AuditLog:
        """The audit log."""

    def key(self, role: Role) -> PrivateKey:
        """The private key of a role. Raises MvmnixError when there is none."""


def initialize(state: HostState) -> None:
    """Make keys and a policy unless there is a policy, or was one; see `Context.initialize`."""
    if is_first_use(state):
        _write_policy(state, serial=1)


def is_first_use(state: HostState) -> bool:
    """Return whether there is no policy, and was none. Raises RefusedError [log-mismatch]."""
    return not is_there(state.floor, state.roots.config) and lost_policy(state) is None


def create_policy(state: HostState) -> None:
    """Write a policy that trusts the keys here, no older than the last one in the log; see `Context.create_policy`."""
    where = state.roots.config.where(FILE_NAME)
    if state.roots.config.exists(FILE_NAME):
        raise UsageError(f"{where} is there already", hint="move it away first if you mean to replace it")
    serials = _latest_serials(state) if _had_log(state) else None
    _write_policy(state, serial=1 if serials is None else serials[1] + 1)


def lost_policy(state: HostState) -> Reason | None:
    """Return why the policy here is lost, or may be; None on a first use. Raises RefusedError [log-mismatch]."""
    had_log = _had_log(state)
    if had_log and not state.keys.exists(key_file(Role.HOST)):
        key = state.keys.where(key_file(Role.HOST))
        move = f"{put_away(state.audit)}; " if _is_log_begun(state) else ""
        why = f"it is gone, and so is {key}, the key of the audit log here"
        hint = (
            "put both back from a backup: until then nothing is verified and nothing starts; if they can't be had, "
            f"begin anew: mvm key create host; {move}mvm audit new-log; mvm policy create"
        )
    elif (serials := _latest_serials(state) if had_log else None) is not None:
        why = f"it is gone: the audit log has verdicts by a trust policy of serial {max(serials[:2])}"
        hint = (
            "put it back from a backup: until then nothing is verified and nothing starts; if it can't be had, "
            "mvm policy create makes another one, which trusts the keys here alone"
        )
    elif kept := [role for role in ROLES if role is not Role.HOST and state.keys.exists(key_file(role))]:
        why = f"there is none, but keys are ({', '.join(kept)}): a policy that is gone may have left them out"
        hint = (
            "put it back from a backup, or bring one that names whom you trust, as ~/.config/mvmnix/trust.toml or with "
            "`mvm verify --policy FILE`; if there never was one, mvm policy create makes one, which trusts the keys "
            "here alone"
        )
    else:
        return None
    return Reason(ReasonCode.POLICY_MISSING, state.roots.config.where(FILE_NAME), why, hint)


def _write_policy(state: HostState, *, serial: int) -> None:
    trusted = {role: _ensure_key(state, role).public for role in ROLES}
    state.roots.config.write_atomic(FILE_NAME, default_policy(trusted, now=now(), serial=serial))
    state.frontend.notice(
        f"the keys builder, planner and host are in {state.keys.path}, and a new trust policy admits them: "
        f"{state.roots.config.where(FILE_NAME)}. What they sign is a workstation's word: SLSA Build L1"
    )


def _ensure_key(state: HostState, role: Role) -> PrivateKey:
    if state.keys.exists(key_file(role)):
        return state.key(role)
    return PrivateKey.create(state.keys, key_file(role))


def _is_log_begun(state: HostState) -> bool:
    """Return whether there is an audit log; its directory is not made."""
    return state.roots.state.exists(audit.DIRECTORY) and is_begun(state.audit)


def _had_log(state: HostState) -> bool:
    """Return whether there is an audit log, or what one leaves behind."""
    return _is_log_begun(state) or bool(audit.log_traces(state.roots.state))


def _latest_serials(state: HostState) -> Serials | None:
    """Return the policy's serials in the last record with any; raises RefusedError [log-mismatch], MvmnixError."""
    return state.journal.latest_serials() if state.journal.is_begun() else None
