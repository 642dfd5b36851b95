"""Reads what the builder VM says of a flake's inputs into typed nouns, and spells the question in Nix; pure.

The question is an expression that is evaluated in the VM: it imports flake.nix and gives back plain data, each URL
parsed by Nix's own `builtins.parseFlakeRef`. What comes back was shaped by a stranger's flake, and is read as such.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mvmnix.arguments import is_subdirectory
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import InputPath, parse_attributes
from mvmnix.model import StorePath

#: A larger answer is refused, in bytes: a lock file of a flake is in it.
LIMIT: Final = 16 * 2**20

_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,254}")
_HINT: Final = "look at the inputs of its flake.nix; see docs/reference/locks.md"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input as flake.nix has it: a reference or what it follows (from that flake), and overrides of its inputs."""

    attributes: Attributes | None = None
    flake: bool = True
    follows: InputPath | None = None
    inputs: "Mapping[str, InputSpec]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flake:
    """What a flake wants: its inputs; and the bytes of its own flake.lock, None without one."""

    inputs: Mapping[str, InputSpec]
    lock: bytes | None = None


# Bounds are those of Nix's users, many times over. A set that holds itself ends at a depth.
_EXPRESSION: Final = r"""
let
  tree = builtins.fetchTree { type = "path"; path = "@path@"; narHash = "@hash@"; };
  top = tree + "@directory@";
  flake = import (top + "/flake.nix");
  fail = where: why: throw "mvm: ${where}: ${why}";
  text = where: value:
    if !builtins.isString value then fail where "not a text, but a ${builtins.typeOf value}"
    else if builtins.stringLength value > 4096 then fail where "longer than 4096 bytes"
    else builtins.unsafeDiscardStringContext value;
  flag = where: value: if builtins.isBool value then value else fail where "neither true nor false";
  scalar = where: value: if builtins.isInt value || builtins.isBool value then value else text where value;
  # a file that is not an archive has a type of its own, which only a flake's parser would take for a tarball
  isFile = url: builtins.match "https?://.*" url != null
    && builtins.match "[^?#]*[.](zip|tar|tgz|tar[.]gz|tar[.]xz|tar[.]bz2|tar[.]zst)([?#].*)?" url == null;
  parsed = isFlake: url: builtins.parseFlakeRef (
    if builtins.match "[.][.]?(/.*)?" url != null then "path:" + url
    else if !isFlake && isFile url then "file+" + url
    else url
  );
  input = depth: where: value:
    let
      rest = builtins.removeAttrs value [ "flake" "follows" "inputs" "url" ];
      url = if value ? url then { url = text "${where}.url" value.url; } else { };
      written = builtins.mapAttrs (name: scalar "${where}.${name}") rest // url;
      isFlake = if value ? flake then flag "${where}.flake" value.flake else true;
    in
    if !builtins.isAttrs value then fail where "not a set, but a ${builtins.typeOf value}"
    else {
      flake = isFlake;
      follows = if value ? follows then text "${where}.follows" value.follows else null;
      attributes =
        if value ? type then builtins.deepSeq written (builtins.seq (builtins.flakeRefToString written) written)
        else if rest != { } then fail where "unexpected: ${toString (builtins.attrNames rest)}"
        else if value ? url then parsed isFlake url.url
        else null;
      inputs = if value ? inputs then inputs (depth + 1) "${where}.inputs" value.inputs else { };
    };
  inputs = depth: where: value:
    if depth > 8 then fail where "nested too deep"
    else if !builtins.isAttrs value then fail where "not a set, but a ${builtins.typeOf value}"
    else if builtins.length (builtins.attrNames value) > 512 then fail where "more than 512 inputs"
    else builtins.mapAttrs (name: input depth "${where}.${name}") value;
in
if !builtins.isAttrs flake then fail "flake.nix" "not a set"
else if !builtins.isFunction (flake.outputs or null) then fail "outputs" "not a function"
else {
  inputs = if flake ? inputs then inputs 0 "inputs" flake.inputs else { };
  arguments = builtins.attrNames (builtins.functionArgs flake.outputs);
  lock = if builtins.pathExists (top + "/flake.lock") then builtins.readFile (top + "/flake.lock") else null;
}
"""


def question(tree: StorePath, nar: Digest, directory: str) -> str:
    """The Nix expression that gives back what the flake in this directory of a stored tree wants."""
    if not is_subdirectory(directory):
        raise ValueError(f"not a subdirectory: {directory!r}")
    text = _EXPRESSION.replace("@path@", str(tree)).replace("@hash@", nar.sri)
    return text.replace("@directory@", f"/{directory}" if directory else "")


def parse(data: bytes, where: str) -> Flake:
    """The flake that an answer describes. Raises RefusedError FLAKE_UNSUPPORTED."""
    try:
        return strict.read(strict.parse_json(data, limit=LIMIT), "answer", _flake)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.FLAKE_UNSUPPORTED, where, _HINT) from error


def _flake(record: strict.Record) -> Flake:
    inputs = dict(record.child("inputs", _inputs))
    for name in record.texts("arguments", _NAME.pattern, 512):
        if name != "self":  # what `outputs` takes without an input of that name means a registry's entry
            inputs.setdefault(name, InputSpec())
    return Flake(inputs, None if record.value("lock") is None else record.text("lock", r"(?s:.*)", LIMIT).encode())


def _inputs(record: strict.Record) -> Mapping[str, InputSpec]:
    for name in record.names():
        if not _NAME.fullmatch(name):
            raise ValueError(f"not the name of an input: {name[:80]!r}")
    return {name: record.child(name, _input) for name in record.names()}


def _input(record: strict.Record) -> InputSpec:
    asked, follows = record.value("attributes"), record.value("follows")
    return InputSpec(
        attributes=None if asked is None else record.child("attributes", parse_attributes),
        flake=record.flag("flake"),
        follows=None if follows is None else _follows(record),
        inputs=record.child("inputs", _inputs),
    )


def _follows(record: strict.Record) -> InputPath:
    nothing: InputPath = ()
    return record.parsed("follows", _path, nothing)


def _path(text: str) -> InputPath:
    parts = tuple(part for part in text.split("/") if part)
    for part in parts:
        if not _NAME.fullmatch(part):
            raise ValueError(f"not the path of an input: {text[:80]!r}")
    return parts
