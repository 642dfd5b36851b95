"""Takes short documents of servers apart into texts, which mvm validates one by one; no rule, no network.

Each function takes the document's bytes and answers with texts in the order that its docstring names, or raises
BadDocumentError.
"""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from mvmnix.builder.fetch.worker.packets import Document

#: What counts of a narinfo; the rest isn't signed, and isn't read.
NARINFO_FIELDS: Final = ("StorePath", "URL", "Compression", "NarHash", "NarSize", "References", "Sig")
#: As mvm itself reads JSON (strict.py): levels, integers below this; and so many texts.
_DEPTH: Final = 32
_INTEGER: Final = 2**53
_VALUES: Final = 100_000
_LINE: Final = re.compile(r"([A-Za-z]{1,32}): ([ -~]*)")
_PARAMETER: Final = re.compile(r'([A-Za-z]{1,32})="([^"\\]{0,1024})"(?:\s*,\s*)?')
#: RFC 8288, as Nix reads it (nix: libstore/filetransfer.cc, "Lockable HTTP Tarball Protocol").
_IMMUTABLE: Final = re.compile(r'<([^<>]+)>\s*;\s*rel="immutable"')
#: RFC 8288, section 3: the target of a link, and one parameter of it, whose value is quoted or not.
_TARGET: Final = re.compile(r"[ \t,]*<([^<>]*)>[ \t]*")
_ATTRIBUTE: Final = re.compile(
    r""";[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"|[^\s",;<>]*)[ \t]*)?"""
)


class BadDocumentError(Exception):
    """It is no such document; says why."""


def narinfo(data: bytes) -> tuple[str, ...]:
    """Names and values of a narinfo's fields that count, in turns (Nix manual, "narinfo")."""
    pairs: list[str] = []
    for number, line in enumerate(data.decode("ascii", "replace").removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadDocumentError(f"line {number} is not `Name: value`")
        if match[1] in NARINFO_FIELDS:
            pairs += match.groups()
    return tuple(pairs)


def token(data: bytes) -> tuple[str, ...]:
    """The token in an answer of a registry's token service (distribution: "Token Authentication Specification")."""
    said = _json(data)
    for name in ("token", "access_token"):
        if isinstance(said, dict) and name in said:
            return (_text(said[name]),)
    raise BadDocumentError("there is no token in its answer")


def challenge(data: bytes) -> tuple[str, ...]:
    """Realm and service of a WWW-Authenticate field for bearer tokens (RFC 9110, section 11.6.1); "" for no service."""
    scheme, _, rest = data.decode("latin-1").strip().partition(" ")
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(rest):
        parameters.setdefault(match[1].lower(), match[2])
        rest = rest[match.end() :]
    if scheme.lower() != "bearer" or rest or not parameters.get("realm"):
        raise BadDocumentError("it is not a challenge for a bearer token")
    return parameters["realm"], parameters.get("service", "")


def immutable(data: bytes) -> tuple[str, ...]:
    """The address in a Link field that says of it that what lies there doesn't change; none without one."""
    match = _IMMUTABLE.search(data.decode("latin-1"))
    return () if match is None else (match[1],)


def next_page(data: bytes) -> tuple[str, ...]:
    """The target of the link to the next page in a Link field (RFC 8288); none without one.

    A link with `anchor` is of another document than the one that came.
    """
    said, at, found = data.decode("latin-1").rstrip(" \t,"), 0, set[str]()
    while at < len(said):
        link = _TARGET.match(said, at)
        if link is None:
            raise BadDocumentError("it is not a list of links")
        at, attributes = link.end(), dict[str, str]()
        while attribute := _ATTRIBUTE.match(said, at):
            attributes.setdefault(attribute[1].lower(), attribute[2] or "")
            at = attribute.end()
        if said[at : at + 1] not in {"", ","}:
            raise BadDocumentError("it is not a list of links")
        if "next" in attributes.get("rel", "").strip('"').lower().split() and "anchor" not in attributes:
            found.add(link[1])
    if len(found) > 1:
        raise BadDocumentError("it names more than one next page")
    return tuple(found)


def json_texts(data: bytes) -> tuple[str, ...]:
    """The value of a document in JSON (RFC 8259), as parsing.py puts it together again: a text for each value.

    `s` and a text, `i` and an integer, `t`, `f` and `n`; `[` and how many values follow; `{` and how many names with
    their values. Other numbers are refused, as are duplicate names and deep nesting.
    """
    texts: list[str] = []
    _flatten(_json(data), texts, _DEPTH)
    return tuple(texts)


def _flatten(value: object, texts: list[str], depth: int) -> None:
    if depth < 0 or len(texts) > _VALUES:
        raise BadDocumentError(f"nested deeper than {_DEPTH} levels, or more than {_VALUES} values")
    match value:
        case str():
            texts.append("s" + value)
        case None | bool():
            texts.append({None: "n", True: "t", False: "f"}[value])
        case int() if abs(value) < _INTEGER:
            texts.append(f"i{value}")
        case list():
            texts.append(f"[{len(value)}")
            for inner in value:
                _flatten(inner, texts, depth - 1)
        case dict():
            texts.append(f"{{{len(value)}")
            for name, inner in value.items():
                texts.append(name)
                _flatten(inner, texts, depth - 1)
        case _:
            raise BadDocumentError("a number that is not an integer, or too large")


def github(data: bytes) -> tuple[str, ...]:
    """The commit in an answer of GitHub's interface."""
    return (_of(_json(data), "sha"),)


def gitlab(data: bytes) -> tuple[str, ...]:
    """The first commit in an answer of GitLab's interface."""
    answers = _json(data)
    return (_of(answers[0] if isinstance(answers, list) and answers else None, "id"),)


def refs(data: bytes) -> tuple[str, ...]:
    """Names and commits of a dumb server's info/refs (gitprotocol-http(5)), in turns."""
    lines = [line.partition("\t") for line in data.decode(errors="replace").splitlines()]
    return tuple(text for commit, _, name in lines for text in (name, commit))


PARSERS: Final[Mapping[Document, Callable[[bytes], tuple[str, ...]]]] = MappingProxyType(
    {
        Document.NARINFO: narinfo,
        Document.JSON: json_texts,
        Document.TOKEN: token,
        Document.CHALLENGE: challenge,
        Document.IMMUTABLE: immutable,
        Document.NEXT: next_page,
        Document.GITHUB: github,
        Document.GITLAB: gitlab,
        Document.REFS: refs,
    }
)


def _json(data: bytes) -> object:
    # one of these stands before each value, and in strings maybe too
    if sum(map(data.count, (b",", b"[", b"{"))) > _VALUES:
        raise BadDocumentError(f"more than {_VALUES} values")
    try:
        value: object = json.loads(
            data.decode(), object_pairs_hook=_no_duplicates, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise BadDocumentError(f"not JSON in UTF-8: {error}") from error
    return value


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadDocumentError("a key is listed twice")
    return result


def _no_number(text: str) -> object:
    raise BadDocumentError(f"the number {text[:24]} is not an integer")


def _of(value: object, name: str) -> str:
    return _text(value.get(name) if isinstance(value, dict) else None, name)


def _text(value: object, name: str = "text") -> str:
    if not isinstance(value, str):
        raise BadDocumentError(f"there is no {name} in its answer")
    return value
