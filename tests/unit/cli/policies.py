"""Changes a user's trust policy, what is revoked, and where checkpoints are kept."""

from collections.abc import Callable
from pathlib import Path

from mvmnix.keys import PrivateKey
from tests.unit.cli.station import Station

OTHER = PrivateKey.generate()


def policy(station: Station, change: Callable[[str], str]) -> None:
    path = station.config / "trust.toml"
    path.write_text(change(path.read_text()))


def serial(number: int) -> Callable[[str], str]:
    return lambda text: text.replace(f"serial = {1 if number > 1 else 5}", f"serial = {number}")


def trusting(text: str, *, roles: str, table: str) -> str:
    """The policy with another signer and table."""
    more = f'[[signers]]\nname = "other"\nroles = ["{roles}"]\nkey = """\n{OTHER.public.pem}"""\n{table}\n[launch]'
    return text.replace("[launch]", more)


def revoke(config: Path, digest: str, *, table: str = "digests", serial: int = 1, more: str = "") -> str:
    """Write a revocations.toml of one entry; returns its text."""
    text = f'version = 1\nserial = {serial}\n[[{table}]]\nsha256 = "{digest}"\n{more}'
    (config / "revocations.toml").write_text(text)
    (config / "revocations.toml").chmod(0o600)
    return text


def keep_checkpoints(station: Station, path: Path, *, required: bool = True) -> None:
    """Have an anchor called usb, which keeps the log's checkpoints at this path."""
    text = f'version = 1\n[[anchors]]\nname = "usb"\nrequired = {str(required).lower()}\nfile = "{path}"\n'
    (station.config / "config.toml").write_text(text)
    (station.config / "config.toml").chmod(0o600)
