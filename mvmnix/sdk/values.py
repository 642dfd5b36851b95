"""What a program says of a sandbox, shares, network and secrets, made into the nouns of a plan by the plan's rules."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from mvmnix.api.plans import NetworkOptions
from mvmnix.network.policy.presets import PresetChoice
from mvmnix.plan import share as sharing
from mvmnix.plan.network import parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.plan.secret_reference import SecretReference, SecretSource, SecretTarget
from mvmnix.sdk.arguments import check_fields, check_methods, choices
from mvmnix.sdk.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Share:
    """A directory of this host that the guest sees at a place of its own. Raises InvalidArgument.

    `source` is relative to the current directory, `target` absolute. Without `writable` the guest may only read, and
    sees the directory as it was at the start, unless `follow` is given. `acknowledge` names dangers that are meant
    (docs/reference/shares.md): "root-directory", "home-directory", "system-directory", "daemon-socket", "mvm-state",
    "credentials", "user-code", "mounts".
    """

    source: str | os.PathLike[str]
    target: str
    writable: bool = False
    follow: bool = False
    acknowledge: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        self.to_plan()

    def to_plan(self) -> sharing.Share:
        """Return the share as a plan has it, by an absolute path."""
        access = sharing.Access.READ_WRITE if self.writable else sharing.Access.READ_ONLY
        hint = 'Share("./data", "/data"), Share("./out", "/out", writable=True); docs/reference/shares.md has the rest'
        host = _absolute(self.source, hint)
        dangers = tuple(sorted(choices("acknowledge", self.acknowledge, sharing.Danger)))
        return _valid(lambda: sharing.Share(host, self.target, access, self.follow, dangers), hint)


@dataclass(frozen=True, slots=True)
class Allow:
    """Let the guest reach this: "https://api.example.com", "tcp:db.example.com:5432" (docs/reference/network.md)."""

    rule: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Deny:
    """Keep the guest from this, whatever else allows it: "example.org", "tcp:192.0.2.7:22"."""

    rule: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Preset:
    """The rules and variables of a preset: "pip", "npm", "apt" or one of the user's; perhaps "pip,index=URL"."""

    name: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Publish:
    """Have a port of this host, 1 to 65535, lead to one of the guest, at an IPv4 address of the host or localhost."""

    host_port: int
    guest_port: int
    address: str = "localhost"

    def __post_init__(self) -> None:
        check_fields(self)


#: What a sandbox's network consists of.
type NetworkPart = Allow | Deny | Preset | Publish

_NETWORK_HINT: Final = (
    'network=[Allow("https://api.example.com"), Deny("example.org"), Preset("pip"), Publish(8080, 80)]; '
    "docs/reference/network.md has the rest"
)


def network_options(parts: Iterable[NetworkPart]) -> NetworkOptions:
    """Return the network of a plan. Raises InvalidArgument for what is no rule, no preset and no port."""
    allowed, denied, presets, ports = list[str](), list[str](), list[Preset](), list[Publish]()
    for part in parts:
        match part:
            case Allow(rule):
                allowed.append(rule)
            case Deny(rule):
                denied.append(rule)
            case Preset():
                presets.append(part)
            case Publish():
                ports.append(part)
            case _:
                raise TypeError(f"a network has no {type(part).__name__} in it: {_NETWORK_HINT}")
    return _valid(
        lambda: NetworkOptions(
            parse_rules(allowed, denied),
            tuple(PresetChoice.parse(each.name) for each in presets),
            tuple(PublishedPort(each.address, each.host_port, each.guest_port) for each in ports),
        ),
        _NETWORK_HINT,
    )


@check_methods
class Secret:
    """A secret of the guest, by where it lies; looked up when the machine starts, and never written down.

    The guest finds it in /run/secrets/NAME, or with `as_variable` as the variable NAME of what runs there.
    """

    __slots__ = ("_reference",)
    _reference: SecretReference

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:

        def __init__(self, *_: object) -> None:
            """Raise TypeError: a secret is named, and never given."""
            names = 'Secret.env("TOKEN"), Secret.file("/path"), Secret.keyring("service", "user"), Secret.command([…])'
            raise TypeError(f"a secret is named by where it lies, and never given itself: {names}")

    @classmethod
    def env(cls, variable: str, *, name: str = "", as_variable: bool = False) -> Self:
        """Take it from a variable of this process; `name` is the variable's where it is left out."""
        return cls._of(name or variable, SecretSource.VARIABLE, (variable,), as_variable)

    @classmethod
    def file(cls, path: str | os.PathLike[str], *, name: str, as_variable: bool = False) -> Self:
        """Take it from a file of this host."""
        where = _absolute(path, 'Secret.file("./token", name="TOKEN")')
        return cls._of(name, SecretSource.FILE, (where,), as_variable)

    @classmethod
    def keyring(cls, service: str, user: str, *, name: str, as_variable: bool = False) -> Self:
        """Take it from this user's keyring."""
        return cls._of(name, SecretSource.KEYRING, (service, user), as_variable)

    @classmethod
    def command(cls, argv: Sequence[str], *, name: str, as_variable: bool = False) -> Self:
        """Take it from what a command of this host prints; the first word is its absolute path."""
        return cls._of(name, SecretSource.COMMAND, tuple(argv), as_variable)

    @classmethod
    def _of(cls, name: str, source: SecretSource, words: tuple[str, ...], as_variable: bool) -> Self:
        target = SecretTarget.VARIABLE if as_variable else SecretTarget.FILE
        made = object.__new__(cls)
        hint = 'Secret.env("TOKEN"); docs/reference/secrets.md has the rest'
        made._reference = _valid(lambda: SecretReference(name, target, source, words), hint)
        return made

    def to_plan(self) -> SecretReference:
        """Return the reference as a plan has it."""
        return self._reference


def _absolute(path: str | os.PathLike[str], hint: str) -> str:
    """Return an absolute path whose links stay what they are. Raises InvalidArgument for an empty one, and for `..`."""
    text = os.fspath(path)
    if not text:
        raise InvalidArgument("the path is empty: the current directory is named by a dot", hint=hint)
    if ".." in text.split("/"):
        why = f"{text!r} has '..', which leads elsewhere where a link is before it"
        raise InvalidArgument(why, hint="os.path.realpath() follows links first")
    return os.path.abspath(text)  # noqa: PTH100 - Path.resolve follows links


def _valid[T](make: Callable[[], T], hint: str) -> T:
    """Make a noun. Raises InvalidArgument where it can't be, which repeats no value behind a name."""
    try:
        return make()
    except ValueError as error:
        raise InvalidArgument(str(error), hint=hint) from None
