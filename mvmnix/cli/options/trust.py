"""The options of `mvm verify` that say whom to trust and what is required, each handed on as one noun."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps

import click
from click.core import ParameterSource

from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.errors import UsageError
from mvmnix.provenance.slsa.in_toto import PackageUrl, predicate_type
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.system.output_files import NewFile


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What was asked for besides whom to trust."""

    bundle: str
    plan: str
    as_json: bool
    statements: bool
    vsa: NewFile | None
    verifier_id: str
    resource_uri: str


_REGEXP = "The same, as a regular expression that matches in full."
_WHOM = (
    click.option("--key", default="", metavar="FILE", help="Public key to trust."),
    click.option("--certificate-identity", default="", help="Certificate identity (SAN) to trust."),
    click.option("--certificate-identity-regexp", default="", help=_REGEXP),
    click.option("--certificate-oidc-issuer", default="", help="Required OIDC issuer of that identity."),
    click.option("--certificate-oidc-issuer-regexp", default="", help=_REGEXP),
    click.option("--trusted-root", default="", metavar="FILE", help="Whose certificates count. Default: public-good."),
    click.option(
        "--policy",
        default="",
        metavar="FILE",
        help="Trust the signers of this trust.toml. Default for an image: your own policy.",
    ),
)
_WANTED = (
    click.option("--type", "kind", help="The predicate type: its URI, or slsaprovenance1, spdxjson, cyclonedx …"),
    click.option("--source-uri", help="The repository that it has to be built from."),
    click.option("--source-tag", help="… at this tag."),
    click.option("--source-digest", help="… at this commit."),
    click.option("--builder-id", help="Required builder ID."),
    click.option(
        "--package",
        metavar="PURL",
        help="Package that the file has to be named as: pkg:npm/%40SCOPE/NAME@VERSION. Without @VERSION: any.",
    ),
    click.option(
        "--source-level",
        type=click.IntRange(0, 4),
        help="Of gitCommit:COMMIT: the least SLSA source level that a summary (VSA) of it has to say.",
    ),
)


def trust_options(function: Callable[..., int]) -> Callable[..., int]:
    """The options that name whom to trust; the function gets them as `whom`."""

    @wraps(function)
    def wrapped(
        *,
        key: str,
        certificate_identity: str,
        certificate_identity_regexp: str,
        certificate_oidc_issuer: str,
        certificate_oidc_issuer_regexp: str,
        trusted_root: str,
        policy: str,
        **others: object,
    ) -> int:
        _refuse_empty()
        identity = (certificate_identity, certificate_identity_regexp)
        issuer = (certificate_oidc_issuer, certificate_oidc_issuer_regexp)
        return function(whom=TrustChoice(key, *identity, *issuer, trusted_root, policy), **others)

    return reduce(lambda made, option: option(made), reversed(_WHOM), wrapped)


def wanted_options(function: Callable[..., int]) -> Callable[..., int]:
    """The options that require something; the function gets them as `wanted`. Raises UsageError."""

    @wraps(function)
    def wrapped(
        *,
        kind: str | None,
        source_uri: str | None,
        source_tag: str | None,
        source_digest: str | None,
        builder_id: str | None,
        package: str | None,
        source_level: int | None,
        **others: object,
    ) -> int:
        source = (source_uri, source_tag, source_digest)
        wanted = Requirements(_type(kind), *source, builder_id, source_level, _package(package))
        return function(wanted=wanted, **others)

    return reduce(lambda made, option: option(made), reversed(_WANTED), wrapped)


def _refuse_empty() -> None:
    """Refuse options and arguments that were typed and are blank: an unset variable must not leave something out.

    Raises UsageError.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        value = context.params.get(name)
        if any(
            isinstance(each, str) and not each.strip() for each in (value if isinstance(value, tuple) else (value,))
        ):
            hint = "say what is meant, or leave the option out"
            raise UsageError(f"{parameter.opts[0]} is empty", hint=hint)


def _type(text: str | None) -> str | None:
    try:
        return None if text is None else predicate_type(text)
    except ValueError as error:
        raise UsageError(f"--type: {error}", hint="name a type by one of these, or by its URI") from error


def _package(text: str | None) -> PackageUrl | None:
    try:
        return None if text is None else PackageUrl.parse(text)
    except ValueError as error:
        hint = "name a package such as pkg:npm/%40scope/name@1.0.0; leave @VERSION out for any version"
        raise UsageError(f"--package: {error}", hint=hint) from error
