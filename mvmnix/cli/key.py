"""`mvm key`: makes and shows keys."""

import click

from mvmnix.cli.house import ROLES, house, key_file
from mvmnix.cli.telling import answer
from mvmnix.errors import UsageError
from mvmnix.keys import Algorithm, PrivateKey, Role

_ROLE = click.argument("role", type=click.Choice([each.value for each in ROLES]))


@click.group()
def key() -> None:
    """Make and show keys: builder signs provenance, planner signs plans, host signs receipts and the audit log."""


@key.command()
@_ROLE
@click.option(
    "--algorithm",
    type=click.Choice([each.value for each in Algorithm]),
    default=Algorithm.ED25519.value,
    show_default=True,
)
def create(role: Role, algorithm: Algorithm) -> None:
    """Make the key of ROLE, readable by you alone; an existing one is never replaced. Prints the public half."""
    if role == Role.HOST and algorithm != Algorithm.ED25519:
        hint = "leave --algorithm out, or make another role's key"
        raise UsageError("the host key signs the audit log's checkpoints, which Ed25519 alone can", hint=hint)
    with house() as rooms:
        try:
            made = PrivateKey.create(rooms.keys, key_file(Role(role)), Algorithm(algorithm))
        except FileExistsError as error:
            where = rooms.keys.where(key_file(Role(role)))
            raise UsageError(
                f"{where} is there already", hint="move it away first if you mean to replace it"
            ) from error
        click.echo(
            f"made {rooms.keys.where(key_file(Role(role)))}; name it in a trust policy to have it believed", err=True
        )
    click.echo(made.public.pem, nl=False)


@key.command()
@_ROLE
@click.option("--json", "as_json", is_flag=True, help="Print fingerprint and public half as JSON.")
def show(role: Role, as_json: bool) -> None:
    """Print the public half of ROLE's key as PEM."""
    with house() as rooms:
        public = rooms.key(Role(role)).public
    if as_json:
        answer("key", {"role": role, "fingerprint": str(public.fingerprint), "pem": public.pem})
    else:
        click.echo(public.pem, nl=False)
