"""`mvm key`: makes and shows keys."""

import click

from mvmnix.api import key_file, open_context, read_secret
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.cli.options.signing import secret_ref
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.errors import UsageError
from mvmnix.keys import Algorithm, PrivateKey, Role

_ROLE = click.argument("role", type=EnumChoice(Role))


@click.group()
def key() -> None:
    """Make and show keys: builder for provenance, planner for plans, host for receipts and log, verifier for VSAs."""


@key.command()
@_ROLE
@click.option(
    "--algorithm",
    type=EnumChoice(Algorithm),
    default=Algorithm.ED25519.value,
    show_default=True,
    help="Of the key; the host's is Ed25519.",
)
@click.option(
    "--password", default="", metavar="env:NAME|file:PATH", help="Encrypt it with the password that lies there."
)
def create(role: Role, algorithm: Algorithm, password: str) -> None:
    """Make the key of ROLE, readable by you alone; an existing one is never replaced. Prints the public half.

    A key that is encrypted is opened with the password that `[keys] password` in config.toml refers to, or with
    one that is asked for at a terminal.
    """
    if role is Role.HOST and algorithm is not Algorithm.ED25519:
        hint = "leave --algorithm out, or make another role's key"
        raise UsageError("the host key signs the audit log's checkpoints, which Ed25519 alone can", hint=hint)
    word = read_secret(secret_ref(password, "--password"), "the password") if password else None
    with open_context(TERMINAL) as context:
        where = context.keys.where(key_file(role))
        try:
            made = PrivateKey.create(context.keys, key_file(role), algorithm, word)
        except FileExistsError as error:
            hint = "move it away first if you mean to replace it"
            raise UsageError(f"{where} is there already", hint=hint) from error
        click.echo(f"made {where}; name it in a trust policy to have it trusted", err=True)
    click.echo(made.public.pem, nl=False)


@key.command()
@_ROLE
@click.option("--json", "as_json", is_flag=True, help="Print fingerprint and public half as JSON.")
def show(role: Role, as_json: bool) -> None:
    """Print the public half of ROLE's key as PEM, and its fingerprint on stderr, as revocations.toml takes it."""
    with open_context(TERMINAL) as context:
        if not context.keys.exists(key_file(role)):
            where = context.keys.where(key_file(role))
            raise UsageError(f"there is no {role} key at {where}", hint=f"mvm key create {role}")
        public = context.key(role).public
    if as_json:
        answer("key", {"role": role, "fingerprint": str(public.fingerprint), "pem": public.pem})
    else:
        click.echo(f'sha256 = "{public.fingerprint.hex}"', err=True)
        click.echo(public.pem, nl=False)
