"""What a verified plan needs of its caller: directories to share, opened, and secrets, resolved."""

from collections.abc import Sequence
from typing import Protocol

from mvmnix.launch.secrets.resolve import resolve_secrets
from mvmnix.launch.shares.opening import OpenedShares, open_shares
from mvmnix.plan.secret_reference import Secret, SecretReference
from mvmnix.plan.share import Share


class Means(Protocol):
    """Port to the process that has what a plan names. Asked once the plan is verified, and again for a second boot."""

    def open_shares(self, shares: Sequence[Share]) -> OpenedShares:
        """Open their directories, as far as they can be had."""

    def resolve_secrets(self, references: Sequence[SecretReference]) -> tuple[Secret, ...]:
        """Return the secrets in order. Raises RefusedError [secret-unavailable] with a reason for each missing one."""


class OwnMeans:
    """The means of this process itself: its file system, environment, keyring and programs."""

    def open_shares(self, shares: Sequence[Share]) -> OpenedShares:
        """Open their directories, as far as they can be had."""
        return open_shares(shares)

    def resolve_secrets(self, references: Sequence[SecretReference]) -> tuple[Secret, ...]:
        """Return the secrets in order. Raises RefusedError [secret-unavailable]."""
        return resolve_secrets(references)
