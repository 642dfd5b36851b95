"""Changes a user's trust policy."""

from collections.abc import Callable

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
