"""Reads the text of config.toml: where downloads may go, caches, credentials, anchors, signing, templates; pure."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, override

from mvmnix.errors import ReasonCode
from mvmnix.formats import strict, toml
from mvmnix.model import DNS_NAME

FILE_NAME: Final = "config.toml"
#: No configuration that people read is larger, in bytes.
LIMIT: Final = 2**20

#: An entry of `[fetch] hosts`. RFC 6761 keeps `localhost` for the loopback, which no host of the list may lead to.
HOST: Final = rf"(?!([^:]*\.)?localhost(:|$))(?=.{{1,253}}(:|$)){DNS_NAME}(:[1-9][0-9]{{0,4}})?"
#: An entry of `[fetch] loopback`: a whole origin on this machine, port and all.
LOOPBACK: Final = r"https?://(127\.0\.0\.1|\[::1\]|localhost)(:[1-9][0-9]{0,4})?"
_CACHE: Final = rf"(https://{DNS_NAME}(:[1-9][0-9]{{0,4}})?|{LOOPBACK})(/[A-Za-z0-9._~-]+)*/?"
_NODE: Final = r"[!-~]{1,4096}"
_KEY_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_REFERENCE: Final = r"(env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:/[^\x00]{1,4095})"
_PATH: Final = r"/[^\x00-\x1f\x7f]{1,4095}"
_WORD: Final = r"[^\x00]{0,4096}"
_ANCHOR_NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
#: A part of git's rule for names (git-check-ref-format) that needs no further look.
_BRANCH: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_-]{0,63}){0,7}"
_LOOPBACK_FORM: Final = "such as http://127.0.0.1:8080: an origin of this machine"
_HOSTS_FORM: Final = (
    "such as sources.example or sources.example:8443, which https reaches; a server on this machine stands in "
    "`loopback`, such as http://127.0.0.1:8080"
)
#: What `anchors` was called.
_FORMER: Final = "witnesses"
_HINT: Final = "correct config.toml; docs/reference/configuration.md has the format"


@dataclass(frozen=True, slots=True)
class FetchRules:
    """Where build inputs may be downloaded from, and how much of the machine that may take.

    `hosts` are DNS names, with a port where it isn't 443, always reached by https; `loopback` whole origins.
    """

    hosts: frozenset[str] = frozenset()
    loopback: frozenset[str] = frozenset()
    size_limit: int = 8 << 30
    seconds: int = 3600
    parallel: int = 8


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The public key of a binary cache: its name and its 32 bytes (Ed25519), as in Nix's `trusted-public-keys`."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `name:base64`. Raises ValueError."""
        name, _, encoded = text.partition(":")
        raw = base64.b64decode(encoded, validate=True)
        if not re.fullmatch(_KEY_NAME, name) or len(raw) != 32 or base64.b64encode(raw).decode() != encoded:
            raise ValueError(f"not a cache's public key, name:base64: {text[:80]!r}")
        return cls(name, raw)

    @property
    def text(self) -> str:
        """`name:base64`, as `parse` reads it: the name alone says nothing, for any key may be called so."""
        return f"{self.name}:{base64.b64encode(self.raw).decode()}"


@dataclass(frozen=True, slots=True)
class CacheRule:
    """A binary cache that may be asked, and the keys of which one has to have signed what it gives."""

    url: str
    keys: tuple[CacheKey, ...]

    @property
    def is_local(self) -> bool:
        """Whether it is one on this machine."""
        return re.match(rf"{LOOPBACK}(/|$)", self.url) is not None


@dataclass(frozen=True, slots=True)
class AnchorRule:
    """A checkpoint anchor: where the audit log's checkpoints are put; one of `file`, `command` and `git` is there.

    `required` says that nothing starts when it can't be reached; `seconds` is how long a command or git may take.
    """

    name: str
    required: bool
    file: str = ""
    command: tuple[str, ...] = ()
    git: str = ""
    branch: str = ""
    seconds: int = 10


class TokenPlace(StrEnum):
    """Where a credential lies."""

    ENVIRONMENT = "env"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class CredentialRule:
    """Where the token for lock nodes lies whose URI matches `node`; the value itself is never written down here."""

    node: str
    place: TokenPlace
    name: str


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret lies, `env:NAME` or `file:/PATH`; the value itself is never written down, or typed in a command.

    >>> SecretRef.parse("env:TOKEN").name
    'TOKEN'
    """

    place: TokenPlace
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        if not re.fullmatch(_REFERENCE, text):
            raise ValueError("not a reference to a secret: env:NAME or file:/PATH")
        place, _, name = text.partition(":")
        return cls(TokenPlace(place), name)

    @override
    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


@dataclass(frozen=True, slots=True)
class SigningRule:
    """Which roles sign keyless, where, and with what OIDC token; None where it is to be found.

    `sigstore` is a public instance, `production` or `staging`, or the path of a trust configuration.
    """

    keyless: frozenset[str] = frozenset()
    sigstore: str = "production"
    token: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """All of config.toml; without the file, nothing beyond the registries may be asked.

    `makes_templates` is whether templates are made unasked (api/unasked_templates.py).
    """

    fetch: FetchRules = FetchRules()
    caches: tuple[CacheRule, ...] = ()
    credentials: tuple[CredentialRule, ...] = ()
    anchors: tuple[AnchorRule, ...] = ()
    signing: SigningRule = SigningRule()
    key_password: SecretRef | None = None
    makes_templates: bool = True


def parse(data: bytes, path: str = FILE_NAME) -> Config:
    """Read a config.toml. Raises RefusedError CONFIG_MALFORMED with all problems at once; unknown keys are some.

    `path` is the file's, for people.
    """
    try:
        return toml.read(data, path, _file, schema="config", limit=LIMIT)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.CONFIG_MALFORMED, path, _HINT) from error


#: What no two of them may have in common.
_CACHES: Final[Mapping[str, Callable[[CacheRule], str]]] = {"a cache is listed twice": lambda cache: cache.url}
_NODES: Final[Mapping[str, Callable[[CredentialRule], str]]] = {
    "two credentials are for the same node": lambda rule: rule.node
}
_ANCHORS: Final[Mapping[str, Callable[[AnchorRule], str]]] = {"two anchors have the same name": lambda rule: rule.name}


def _file(record: strict.Record) -> Config:
    record.integer("version", 1, 1)
    if record.has(_FORMER):
        record.note("unknown: it is called `anchors` now, write [[anchors]]", _FORMER)
    fetch = record.child("fetch", _fetch) if record.has("fetch") else FetchRules()
    caches = record.each("caches", _cache, 16, distinct=_CACHES) if record.has("caches") else ()
    credentials = record.each("credentials", _credential, 256, distinct=_NODES) if record.has("credentials") else ()
    anchors = record.each("anchors", _anchor, 8, distinct=_ANCHORS) if record.has("anchors") else ()
    signing = record.child("signing", _signing) if record.has("signing") else SigningRule()
    password = record.child("keys", lambda keys: _secret(keys, "password")) if record.has("keys") else None
    unasked = record.child("templates", _templates) if record.has("templates") else True
    return Config(fetch, caches, credentials, anchors, signing, password, unasked)


def _fetch(record: strict.Record) -> FetchRules:
    usual = FetchRules()
    size, seconds = usual.size_limit, usual.seconds
    return FetchRules(
        hosts=_names(record, "hosts", HOST, _HOSTS_FORM),
        loopback=_names(record, "loopback", LOOPBACK, _LOOPBACK_FORM),
        size_limit=record.integer("size-limit-mib", 1, 1 << 20) << 20 if record.has("size-limit-mib") else size,
        seconds=record.integer("seconds", 1, 86_400) if record.has("seconds") else seconds,
        parallel=record.integer("parallel", 1, 64) if record.has("parallel") else usual.parallel,
    )


def _names(record: strict.Record, field: str, pattern: str, form: str) -> frozenset[str]:
    return frozenset(record.texts(field, pattern, 1024, form=form)) if record.has(field) else frozenset()


def _cache(record: strict.Record) -> CacheRule:
    url = record.text("url", _CACHE, 1024)
    keys = tuple(CacheKey.parse(key) for key in record.texts("keys", limit=16, least=1))
    if len({key.name for key in keys}) != len(keys):
        record.note("two keys of one name", "keys")
    return CacheRule(url.rstrip("/"), keys)


def _anchor(record: strict.Record) -> AnchorRule:
    kinds = [kind for kind in ("file", "command", "git") if record.has(kind)]
    if len(kinds) != 1:
        raise ValueError("an anchor is one of file, command and git")
    command = record.texts("command", _WORD, 64, least=1) if "command" in kinds else ()
    if command and not re.fullmatch(_PATH, command[0]):
        record.note("an anchor's command begins with the absolute path of a program", "command")
    return AnchorRule(
        name=record.text("name", _ANCHOR_NAME),
        required=record.flag("required"),
        file=record.text("file", _PATH) if "file" in kinds else "",
        command=command,
        git=record.text("git", _PATH) if "git" in kinds else "",
        branch=record.text("branch", _BRANCH) if "git" in kinds else "",
        seconds=record.integer("seconds", 1, 300) if kinds != ["file"] and record.has("seconds") else 10,
    )


def _signing(record: strict.Record) -> SigningRule:
    roles = record.texts("keyless", "builder|planner|verifier", 3) if record.has("keyless") else ()
    place = record.text("sigstore", rf"production|staging|file:{_PATH}") if record.has("sigstore") else "production"
    return SigningRule(frozenset(roles), place.removeprefix("file:"), _secret(record, "identity-token"))


def _templates(record: strict.Record) -> bool:
    return record.flag("unasked") if record.has("unasked") else True


def _secret(record: strict.Record, name: str) -> SecretRef | None:
    return record.parsed(name, SecretRef.parse, None) if record.has(name) else None


def _credential(record: strict.Record) -> CredentialRule:
    token = record.text("token", _REFERENCE, 4096)
    place, _, name = (token or "env:_").partition(":")
    return CredentialRule(record.text("node", _NODE), TokenPlace(place), name)
