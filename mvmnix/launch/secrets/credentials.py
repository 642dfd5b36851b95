"""Finds what looks like a credential in the texts of a plan, and refuses it; pure, and only for where plans are made.

The texts are every string of the plan's statement, names of members included. The statement is walked as it is signed,
so that a field that plans get later is looked at without being named here.

The detectors are those of detect-secrets, by their `analyze_string`, which looks at a text and at nothing else: not at
its comments that allow a line, and not at the services that could say whether a token is valid. Importing them costs
0.06 s, so that is spared for texts in which none of them could find anything. Neither verification nor the supervisor
imports this module (pyproject.toml): a heuristic is no protection, it only helps a careless caller.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats import strict
from mvmnix.plan.plan import Plan, plan_statement
from mvmnix.provenance.bundle.statement import Statement

type _Path = tuple[str | int, ...]

#: What people call some fields; the others are called by their place in the statement.
_CALLED: Final[Mapping[_Path, str]] = {
    ("image", "kernelCommandLine"): "the kernel command line",
    ("workload", "directory"): "the working directory",
}
#: The objects whose members a plan's author names, and what such a member is.
_NAMED_BY_AUTHOR: Final[Mapping[_Path, str]] = {("workload", "environment"): "variable", ("labels",): "label"}
_COMMAND: Final = ("workload", "command")
_SECRETS: Final = ("secrets",)

#: No detector finds anything in a text without one of these; a test holds their patterns against it.
_WORTH_A_LOOK: Final = re.compile(
    r"(?i)xox|eyJ|pass|pwd|secret|contrase|token|key|bearer|cred|authorization|://\S+@"
    r"|[A-Za-z0-9_=+-]{11}|[A-Za-z0-9_=+/-]{20}"
)
#: What a name of a secret has, in the library's list and in ours; a test holds the library's against it.
_SECRET_NAME: Final = re.compile(r"(?i)pass|pwd|secret|contrase|token|key|cred|bearer")
#: Of such words plans are made by themselves: the schema's, digests, UUIDs, times, kernel parameters, dm-verity's
#: among them. No detector takes a text of them for anything, unless it has one of `_TELLING`; a test holds it to this.
_ORDINARY: Final = re.compile(
    r"[a-z]{1,16}(?:(?:-[a-z]|[A-Z][a-z])[a-z]{0,16}){0,3}|[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}Z"
    r"|(?:[0-9a-f]{32}){1,2}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?:[a-z_.]{1,24}=)?(?:-?[a-z0-9_]{1,16}|ttyS0)|mvm\.verity=[0-9a-f]{64}:[0-9a-f]{32}(?::[0-9]{1,16}){2}"
)
_TELLING: Final = re.compile(rf"{_SECRET_NAME.pattern}|auth|private|xox|eyj")
#: Names that the library's own list lacks; what they name is judged as what is named `secret`.
_ALSO_SECRET: Final = re.compile(r"(?i)token|passphrase|credential|bearer|^pass$")
#: Names that say of a secret where it is, or what it is like.
_ABOUT: Final = re.compile(
    r"(?i)(file|path|dir|name|id|url|uri|host|type|length|ttl|stdin|policy|algorithm|command|cmd)s?$"
)
#: What stands for a secret without being one.
_NO_SECRET: Final = re.compile(
    r"(?i)(env|file|keyring|command):.*|true|false|yes|no|on|off|none|null|stdin|prompt|\d{1,3}"
)
#: `--name=value`, `--name value` and `NAME=value`, in a word or in a line of shell.
_NAMED: Final = re.compile(r"""(?<![\w-])(?:--?([A-Za-z][\w.-]*)(?:=|\s+)|([A-Z_][A-Z0-9_]*)=)["']?([^\s;&|"']+)""")
_WHOLE: Final = re.compile(r"-{0,2}([A-Za-z_][\w.-]*)[=:](\S.*)", re.DOTALL)
_BEARER: Final = re.compile(r"(?i)\b(?:bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{16,}")
#: A run of base64's characters that could be random, in letters of both cases and digits.
_RUN: Final = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
#: Digests (hexadecimal, or in the form of SRI, W3C Subresource Integrity) and the hash of a store path.
_DIGEST: Final = re.compile(
    r"(?:sha(?:1|256|384|512)[-:][A-Za-z0-9+/]{27,88}={0,2})|[0-9a-fA-F]{16,}|[0-9a-df-np-sv-z]{32}"
)
#: The kind of a random string that no pattern knows.
RANDOM: Final = "a random string"
_PIECE: Final = 13
#: Of all neighbours in a random run 64 % are of different kinds; of those in words that are written together, 40 %.
_CHANGES: Final = 0.46

_WHAT: Final = "the plan"
_NONE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a plan. `where` it stands, for people, says nothing of it, but may have `author`, a name beside it.

    `meaning` is what the text is by the word before it, an option or the name of a member; empty where there is none.
    """

    where: str
    content: str = field(repr=False)
    meaning: str = field(default="", repr=False)
    author: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something that looks like a credential: where it stands, what kind it seems, and what to call it. Not itself."""

    where: str
    kind: str
    name: str

    @property
    def reason(self) -> Reason:
        """Why it is refused, with what should stand there."""
        name = self.name or "NAME"
        hint = (
            "revoke it if it was real, for command lines and plans are read by many; and hand the guest a reference: "
            f"--secret {name}=env:{name} for a file, --secret-env {name}=env:{name} for a variable, or file:, "
            "keyring:, command: (docs/reference/secrets.md)"
        )
        return Reason(
            ReasonCode.PLAINTEXT_CREDENTIAL, _WHAT, f"{self.where} looks like a credential ({self.kind})", hint
        )


def refuse_in_plan(plan: Plan) -> None:
    """Refuse a plan with a credential in any of its texts.

    Raises RefusedError [plaintext-credential] with a reason for each place; none repeats what stands there.
    """
    _refuse(in_texts(of_plan(plan_statement(plan))))


def refuse_typed(argv: Sequence[str], labels: Mapping[str, str], variables: Mapping[str, str] = _NONE) -> None:
    """The same for a command, labels and variables that were just typed, before anything is built for them."""
    members = (*of_members("label", labels), *of_members("variable", variables))
    _refuse((*in_command(argv), *in_texts(members)))


def in_command(argv: Sequence[str]) -> Iterator[Suspect]:
    """What looks like a credential in a command, at most one for each argument."""
    yield from in_texts(of_command(argv))


def in_texts(texts: Iterable[Text]) -> Iterator[Suspect]:
    """The same in any texts. A name that looks like one itself is not repeated for what has that name."""
    suspicious = set[str]()
    for text in texts:
        if text.author in suspicious:
            continue
        for suspect in _first(text.where, (*_named(text.meaning, text.content), *_kinds(text.content))):
            suspicious.add(text.content)
            yield suspect


def of_plan(statement: Statement) -> Iterator[Text]:
    """All texts of a plan, by its statement. Raises RefusedError [plan-malformed] for what no signed plan can hold."""
    try:
        value = strict.parse_json(statement.to_bytes())
    except strict.MalformedError as error:
        hint = "use UTF-8 in the command, in labels and in paths"
        raise refuse(ReasonCode.PLAN_MALFORMED, "the plan", str(error), hint) from error
    predicate = value.pop("predicate") if isinstance(value, dict) else None
    yield from _walk((), predicate)
    yield from _walk(("statement",), value)


def of_command(argv: Sequence[str]) -> Iterator[Text]:
    """The words of a command."""
    for number, (word, meaning) in enumerate(_words(argv)):
        yield Text(f"argument {number} of the command" if number else "the command's program", word, meaning)


def of_members(kind: str, members: Mapping[str, object]) -> Iterator[Text]:
    """Names and values of variables or labels; `kind` is what one of them is called."""
    for name, content in members.items():
        yield Text(f"the name of a {kind}", name)
        if isinstance(content, str):
            yield Text(f"the value of the {kind} {name}", content, name, name)


def _refuse(suspects: Iterable[Suspect]) -> None:
    if reasons := [suspect.reason for suspect in suspects]:
        raise RefusedError(*reasons)


def _first(where: str, kinds: Iterable[tuple[str, str]]) -> Iterator[Suspect]:
    for kind, name in kinds:
        yield Suspect(where, kind, re.sub(r"\W", "_", name).upper())
        return


def _kinds(content: str) -> Iterator[tuple[str, str]]:
    """What kinds of credential a text seems to hold, each with the name that it is given there, or none."""
    if not _WORTH_A_LOOK.search(content) or _is_ordinary(content):
        return
    if whole := _WHOLE.fullmatch(content):
        yield from _named(whole[1], whole[2])
    for line in content.splitlines():
        for option, variable, value in _NAMED.findall(line):
            yield from _named(option or variable, value)
        yield from ((kind, "") for kind in kinds_by_form(line))


def _is_ordinary(content: str) -> bool:
    return not _TELLING.search(content) and all(map(_ORDINARY.fullmatch, content.split(" ")))


def _named(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Whether the name says that the value is a secret."""
    if not _SECRET_NAME.search(name) or _ABOUT.search(name) or _NO_SECRET.fullmatch(value):
        return
    from mvmnix.launch.secrets.detectors import named_secret  # noqa: PLC0415 - 0.06 s, see above

    if named_secret("secret" if _ALSO_SECRET.search(name) else name.replace("-", "_"), value):
        yield "its name says so", name


def kinds_by_form(line: str) -> Iterator[str]:
    """Yield the kinds of credential that a line has by its form alone."""
    from mvmnix.launch.secrets.detectors import kinds_of, looks_random  # noqa: PLC0415 - 0.06 s, see above

    yield from kinds_of(line)
    if _BEARER.search(line):
        yield "an Authorization header"
    if any(_is_mixed(run) and looks_random(run) for run in _RUN.findall(_DIGEST.sub(" ", line))):
        yield RANDOM


def _is_mixed(run: str) -> bool:
    """Whether a piece of it is of letters and digits in the disorder of chance, not of words in a path."""
    return any(_is_mixed_piece(piece) for piece in re.split(r"[/_=+-]", run) if len(piece) >= _PIECE)


def _is_mixed_piece(piece: str) -> bool:
    kinds = ["A" if each.isupper() else "a" if each.islower() else "0" for each in piece]
    changes = sum(one != other for one, other in pairwise(kinds))
    return len(set(kinds)) == 3 and changes >= _CHANGES * (len(piece) - 1)


def _walk(path: _Path, value: object) -> Iterator[Text]:
    match value:
        case str():
            name = _member(path)
            yield Text(_CALLED.get(path, f"the field {'.'.join(map(str, path))}"), value, name, name)
        case list() if path == _COMMAND:
            yield from of_command([str(word) for word in value])
        case list():
            for number, each in enumerate(value):
                yield from _walk((*path, number), each)
        case dict() if path in _NAMED_BY_AUTHOR:
            yield from of_members(_NAMED_BY_AUTHOR[path], value)
        case dict() if path[:-1] == _SECRETS:
            yield from _secret(path, value)
        case dict():
            for name, each in value.items():
                yield Text("the name of a field", name)
                yield from _walk((*path, name), each)
        case _:
            pass


def _secret(path: _Path, it: Mapping[str, object]) -> Iterator[Text]:
    """A reference to a secret; its words may be those of a command."""
    for name, value in it.items():
        if name != "reference":
            yield from _walk((*path, name), value)
    author, words = str(it.get("name", "")), it.get("reference")
    for number, (word, meaning) in enumerate(_words(list(map(str, words)) if isinstance(words, list) else [])):
        yield Text(f"word {number} of the reference of {author}", word, meaning, author)


def _member(path: _Path) -> str:
    return next((step for step in path[-1:] if isinstance(step, str)), "")


def _words(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word, with the option before it that it may be the value of."""
    for before, word in pairwise(("", *words)):
        is_value = before.startswith("-") and not word.startswith("-")
        yield word, before.lstrip("-") if is_value else ""
