"""Reads and writes store derivations: what is made, from what, by which program; pure, no I/O.

Nix manual, "Store Derivation" and "Derivation ATerm". A derivation has one form, whose lists are sorted: what was read
is written once more, and has to come out as it was. Its path follows from its bytes and from what it refers to.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.digest import Digest
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath

#: Ends a derivation's name in its path.
SUFFIX: Final = ".drv"
_STRING: Final = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_ESCAPES: Final = str.maketrans({'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


@dataclass(frozen=True, slots=True)
class Output:
    """One output: its path, and of a fixed one method and hash as Nix writes them, `r:sha256` and hexadecimal digits.

    Without a path it is known only after the build; with an algorithm and no hash it is addressed by its content.
    """

    path: str
    algorithm: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Derivation:
    """A store derivation. `inputs` are derivations and which of their outputs; texts keep bytes that are no UTF-8."""

    outputs: Mapping[str, Output]
    inputs: Mapping[StorePath, tuple[str, ...]]
    sources: tuple[StorePath, ...]
    system: str
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes) -> "Derivation":
        """Parse the file of a derivation. Raises MalformedError for what Nix would not write."""
        found = _Reader(data.decode(errors="surrogateescape")).derivation()
        lists = (found.sources, *found.inputs.values())
        if found.to_bytes() != data or not all(found.inputs.values()) or any(len(set(it)) < len(it) for it in lists):
            raise MalformedError("it is not written as Nix writes it")
        return found

    def to_bytes(self) -> bytes:
        """Return the derivation as Nix writes it."""
        return self._write({str(path): names for path, names in self.inputs.items()}, masked=False)

    @property
    def paths(self) -> tuple[StorePath, ...]:
        """Where the outputs go. Raises ValueError where that is known only after the build."""
        return tuple(StorePath.parse(output.path) for output in self.outputs.values())

    def modulo(self, inputs: Mapping[str, tuple[str, ...]], *, masked: bool = False) -> Digest:
        """Return the digest of this derivation with hashes in the place of its input derivations' paths.

        `masked` leaves its own outputs' paths out, which follow from that digest (nix: hashDerivationModulo).
        """
        return Digest.of(self._write(inputs, masked=masked))

    def path(self, name: str) -> StorePath:
        """Return the path of a derivation with this name, which doesn't end with `.drv`. Raises ValueError."""
        return StorePath.text(name + SUFFIX, Digest.of(self.to_bytes()), self.references)

    @property
    def references(self) -> frozenset[StorePath]:
        """What its file refers to."""
        return frozenset((*self.inputs, *self.sources))

    def _write(self, inputs: Mapping[str, tuple[str, ...]], *, masked: bool) -> bytes:
        outputs = (_tuple(name, "" if masked else it.path, it.algorithm, it.hash) for name, it in _sorted(self.outputs))
        environment = (
            _tuple(name, "" if masked and name in self.outputs else value) for name, value in _sorted(self.environment)
        )
        written = (
            _list(outputs),
            _list(f"({_text(path)},{_texts(sorted(names, key=_order))})" for path, names in _sorted(inputs)),
            _texts(sorted(map(str, self.sources))),
            *map(_text, (self.system, self.program)),
            _texts(self.arguments),
            _list(environment),
        )
        return f"Derive({','.join(written)})".encode(errors="surrogateescape")


def _order(text: str) -> bytes:
    """Nix sorts texts by their bytes."""
    return text.encode(errors="surrogateescape")


def _sorted[T](mapping: Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return sorted(mapping.items(), key=lambda item: _order(item[0]))


def _text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _tuple(*texts: str) -> str:
    return f"({','.join(map(_text, texts))})"


def _list(written: Iterable[str]) -> str:
    return f"[{','.join(written)}]"


def _texts(texts: Iterable[str]) -> str:
    return _list(map(_text, texts))


class _Reader:
    """Reads the grammar from its beginning, one token after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def derivation(self) -> Derivation:
        """Read all of it. Raises MalformedError."""
        found = Derivation(
            outputs=dict(self._behind("Derive(", lambda: self._list(self._output))),
            inputs=dict(self._behind(",", lambda: self._list(self._input))),
            sources=tuple(map(_path, self._behind(",", self._texts))),
            system=self._behind(",", self._string),
            program=self._behind(",", self._string),
            arguments=tuple(self._behind(",", self._texts)),
            environment=dict(self._behind(",", lambda: self._list(self._variable))),
        )
        self._expect(")")
        if self._at != len(self._text):
            raise MalformedError("something follows its end")
        return found

    def _input(self) -> tuple[StorePath, tuple[str, ...]]:
        path, names = _path(self._behind("(", self._string)), tuple(self._behind(",", self._texts))
        self._expect(")")
        return path, names

    def _texts(self) -> Iterator[str]:
        return self._list(self._string)

    def _behind[T](self, token: str, read: Callable[[], T]) -> T:
        self._expect(token)
        return read()

    def _output(self) -> tuple[str, Output]:
        name = self._behind("(", self._string)
        output = Output(*(self._behind(",", self._string) for _ in range(3)))
        self._expect(")")
        return name, output

    def _variable(self) -> tuple[str, str]:
        name, value = self._behind("(", self._string), self._behind(",", self._string)
        self._expect(")")
        return name, value

    def _list[T](self, item: Callable[[], T]) -> Iterator[T]:
        self._expect("[")
        if not self._took("]"):
            yield item()
            while self._took(","):
                yield item()
            self._expect("]")

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise MalformedError(f"no text stands at character {self._at}")
        self._at = found.end()
        text = found[1]
        return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), text) if "\\" in text else text

    def _expect(self, token: str) -> None:
        if not self._took(token):
            raise MalformedError(f"{token!r} doesn't stand at character {self._at}")

    def _took(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) if found else 0
        return found


def _path(text: str) -> StorePath:
    try:
        return StorePath.parse(text)
    except ValueError as error:
        raise MalformedError(str(error)) from error
