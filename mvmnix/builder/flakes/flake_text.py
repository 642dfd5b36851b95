"""Finds names of a flake's packages in the text of its flake.nix, where they are written out; evaluates nothing.

What is found is a package's name in every evaluation that gives the flake any. So little counts:

1. The file is one set, and `outputs` in it a function whose body is one set, behind `let … in` at most.
2. From there to the name, all is written out: `packages.x86_64-linux.NAME = …;`, sets in sets, `inherit`.
3. `${system}` counts where that `let` binds it to a string, and no set around it is recursive.

Of anything else, such as a function that makes the set or a `//` behind it, no name is found.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mvmnix.model import SYSTEM

#: Nix's words and signs (its lexer.l), the longest first where two begin alike; what may be tried in vain is bounded.
_TOKEN: Final = re.compile(
    r"""
      (?P<blank> [ \t\r\n]+ | \#[^\r\n]* )
    | (?P<comment> /\* )
    | (?P<quote> " | '' )
    | (?P<other>
          [A-Za-z][A-Za-z0-9+.-]{0,31} : [A-Za-z0-9%/?:@&=+$,_.!~*'-]+   # a URI
        | < [A-Za-z0-9._+-]{1,63} (?:/[A-Za-z0-9._+-]+)* >
        | [A-Za-z0-9._+~-]{0,63} (?:/[A-Za-z0-9._+-]+)+                 # a path
      )
    | (?P<number> [0-9]+ )
    | (?P<name> [A-Za-z_][A-Za-z0-9_'-]* )
    | (?P<sign> \.\.\. | [=!<>]= | && | \|\| | -> | // | \+\+ | \|> | <\| | \$\{ | [][{}().,:;=@?!<>+*/-] )
    """,
    re.VERBOSE | re.ASCII,
)
_PLAIN: Final = re.compile(r'(?: [^$"\\] | \$[^{"\\] | \$?\\. | \$(?=") )+', re.VERBOSE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?: [^$'] | \$[^{'] | \$(?=') | ''\$ | ''' | ''\\. | '(?!') )+", re.VERBOSE | re.DOTALL)
_CLOSING: Final = {"{": "}", "${": "}", "[": "]", "(": ")"}
#: So deep may brackets, and strings in strings, lie in each other.
_DEPTH: Final = 100
#: A longer text is none that people write.
_WORDS: Final = 2**16
_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_-]*")


class _UnclearError(Exception):
    """The text isn't of the form that is read here."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A word; `kind` is name, number, sign, other, text (a string without `${}`), or group (`inside` is brackets)."""

    kind: str
    text: str
    inside: "Sequence[_Token]" = ()


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a set binds: a path, with None for what isn't written out, to tokens; to none where it is inherited."""

    path: tuple[str | None, ...]
    value: Sequence[_Token] = ()


def package_names(data: bytes) -> tuple[str, ...]:
    """The names of a flake's packages for x86_64-linux that are written out, in their order there.

    >>> package_names(b"{ outputs = { self }: { packages.x86_64-linux = { hello = 1; inherit (self) tools; }; }; }")
    ('hello', 'tools')
    >>> package_names(b"{ outputs = { self }: { packages.x86_64-linux = { hello = 1; } // self.more; }; }")
    ()
    """
    try:
        found = list(_packages(_Reader(data.decode()).read()))
    except (_UnclearError, UnicodeDecodeError):
        return ()
    return tuple(dict.fromkeys(name for name in found if _NAME.fullmatch(name)))


class _Reader:
    """Takes a text apart into words, those in brackets together."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._words = 0
        self._open: list[tuple[str, list[_Token]]] = [("", [])]

    def read(self) -> Sequence[_Token]:
        """All of it. Raises _UnclearError."""
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            self._words += 1
            if found is None or self._words > _WORDS:
                raise _UnclearError
            self._at = found.end()
            self._take(str(found.lastgroup), found.group())
        if len(self._open) != 1:
            raise _UnclearError
        return self._open[0][1]

    def _take(self, kind: str, text: str) -> None:
        if kind == "comment":
            self._at = self._text.find("*/", self._at) + 2
            if self._at < 2:
                raise _UnclearError
        elif kind == "quote":
            self._string(text, "text" if text == '"' else "other")
        elif text in _CLOSING:
            self._begin(text)
        elif text in _CLOSING.values():
            self._end(text)
        elif kind != "blank":
            self._open[-1][1].append(_Token(kind, text))

    def _string(self, quote: str, kind: str) -> None:
        """What follows a quote, up to the other one or to `${`."""
        start = self._at
        if found := (_PLAIN if quote == '"' else _INDENTED).match(self._text, start):
            self._at = found.end()
        if self._text.startswith("${", self._at):
            self._at += 2
            self._begin(f"{quote}${{")
        elif self._text.startswith(quote, self._at):
            self._open[-1][1].append(_Token(kind, self._text[start : self._at]))
            self._at += len(quote)
        else:
            raise _UnclearError

    def _begin(self, bracket: str) -> None:
        if len(self._open) > _DEPTH:
            raise _UnclearError
        self._open.append((bracket, []))

    def _end(self, bracket: str) -> None:
        begun, inside = self._open.pop()
        if _CLOSING.get(begun.lstrip("\"'")) != bracket:
            raise _UnclearError
        if begun[0] in "\"'":  # the string goes on
            self._string(begun.removesuffix("${"), "other")
        else:
            self._open[-1][1].append(_Token("group", begun, inside))


def _packages(tokens: Sequence[_Token]) -> Iterator[str]:
    """The names by the steps above. Raises _UnclearError."""
    # 1. one set, one function
    match tokens:
        case [_Token("group", "{", flake)]:
            outputs = [it for it in _bindings(flake, {}) if it.path[0] == "outputs"]
        case _:
            raise _UnclearError
    if len(outputs) != 1 or outputs[0].path != ("outputs",):
        raise _UnclearError
    body, texts = _body(outputs[0].value)
    # 2. and 3.
    return _names(body, ("packages", SYSTEM), texts)


def _body(function: Sequence[_Token]) -> tuple[Sequence[_Token], Mapping[str, str]]:
    """What a function gives, and which names the `let` before it binds to strings."""
    shape = [it.text if it.kind in {"sign", "group"} else it.kind for it in function[:4]]
    if shape[:2] in (["name", ":"], ["{", ":"]):
        body = function[2:]
    elif shape in (["name", "@", "{", ":"], ["{", "@", "name", ":"]):
        body = function[4:]
    else:
        raise _UnclearError
    if not body or body[0] != _Token("name", "let"):
        return body, {}
    end = _end_of_let(body)
    bound = (it for it in _bindings(body[1:end], {}) if len(it.path) == len(it.value) == 1)
    return body[end + 1 :], {str(it.path[0]): it.value[0].text for it in bound if it.value[0].kind == "text"}


def _end_of_let(tokens: Sequence[_Token]) -> int:
    """Where the `in` is of the `let` that they begin with."""
    depth = 0
    for place, token in enumerate(tokens):
        if token.kind == "name":
            depth += (token.text == "let") - (token.text == "in")
            if depth == 0:
                return place
    raise _UnclearError


def _names(value: Sequence[_Token], path: tuple[str, ...], texts: Mapping[str, str]) -> Iterator[str]:
    """What is bound right below `path` of a set; nothing where the value isn't one that is written out."""
    match value:
        case [_Token("group", "{", inside)]:
            pass
        case [_Token("name", "rec"), _Token("group", "{", inside)]:
            texts = {}  # a name may be bound in the set itself
        case _:
            return
    for it in _bindings(inside, texts):
        if it.path == path[: len(it.path)]:
            yield from _names(it.value, path[len(it.path) :], texts)
        elif it.path[:-1] == path and it.path[-1] is not None:
            yield it.path[-1]


def _bindings(tokens: Sequence[_Token], texts: Mapping[str, str]) -> list[_Binding]:
    """What is bound between the brackets of a set, or in a `let`. Raises _UnclearError."""
    found, at = list[_Binding](), 0
    while at < len(tokens):
        end = _end_of_binding(tokens, at)
        binding, at = tokens[at:end], end + 1
        if binding[:1] == [_Token("name", "inherit")]:
            names = binding[2:] if len(binding) > 1 and binding[1].text == "(" else binding[1:]
            found += [_Binding((_attribute(name, texts),)) for name in names]
            continue
        equals = next((place for place, token in enumerate(binding) if token == _Token("sign", "=")), 0)
        if equals % 2 == 0 or any(token != _Token("sign", ".") for token in binding[1:equals:2]):
            raise _UnclearError
        found.append(_Binding(tuple(_attribute(it, texts) for it in binding[:equals:2]), binding[equals + 1 :]))
    return found


def _end_of_binding(tokens: Sequence[_Token], at: int) -> int:
    """Where the semicolon is that ends it: not one of a `let`, nor that behind `with` and `assert`."""
    lets = others = 0
    for place in range(at, len(tokens)):
        match tokens[place]:
            case _Token("name", "let"):
                lets += 1
            case _Token("name", "in"):
                lets -= 1
            case _Token("name", "with" | "assert") if not lets:
                others += 1
            case _Token("sign", ";") if not lets and not others:
                return place
            case _Token("sign", ";") if not lets:
                others -= 1
    raise _UnclearError


def _attribute(token: _Token, texts: Mapping[str, str]) -> str | None:
    """A name in a path: itself, or a string; `${name}` where that is bound to one; None for any other expression."""
    match token:
        case _Token("name" | "text", text):
            return text
        case _Token("group", "${", [_Token("name", name)]):
            return texts.get(name)
        case _Token("group", "${") | _Token("other"):
            return None
        case _:
            raise _UnclearError
