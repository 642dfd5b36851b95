"""Finds references to OCI images that name no digest, where an image is pulled or run; pure."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from mvmnix.claims.passages import Passage
from mvmnix.claims.patterns import either
from mvmnix.claims.rules import Match, Rule

_PART: Final = r"[a-z0-9]++(?:(?:[._]|__|-++)[a-z0-9]++)*+"
_LABEL: Final = r"[a-z0-9]++(?:-++[a-z0-9]++)*+"
_HOST: Final = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})+)(?::\d+)?"
_NAME: Final = rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*+"
#: As in the reference grammar of distribution: a name, a tag, a digest.
_IMAGE: Final = (
    rf"(?P<name>(?=[a-z]|\d+\.){_NAME})(?::(?P<tag>\w[\w.-]{{0,127}}))?"
    rf"(?:@(?P<digest>sha256:[^\s`'\",;)}}\]]*))?(?=[\s`'\",;)}}\]]|$)"
)
#: A whole digest, or what stands for one in an example: `sha256:…`, `sha256:$DIGEST`, `sha256:<digest>`.
_DIGEST: Final = re.compile(r"sha256:(?:[0-9a-f]{64}|[^0-9a-f].*|[A-Z]+)$", re.DOTALL)
#: Options of `run` and `create` that take a value, as docker and podman have them.
_VALUED: Final = (
    r"(?:add-host|annotation|arch|cap-add|cap-drop|cidfile|cpus|cpuset-cpus|cpu-shares|device|dns|entrypoint|env|env-file"
    r"|gpus|hostname|ipc|label|log-driver|log-opt|memory|mount|name|net|network|network-alias|pid|pids-limit|platform|pod"
    r"|publish|pull|restart|runtime|security-opt|shm-size|stop-signal|sysctl|tmpfs|ulimit|user|userns|volume|volumes-from"
    r"|workdir)"
)
_OPTIONS: Final = rf"(?:\s+(?:--{_VALUED}(?:=\S+|\s+\S+)|--[\w-]+(?:=\S+)?|-[A-Za-z]*[vpewulmh]\s+\S+|-[A-Za-z]+))*+"
_PROGRAM: Final = either("docker", "podman", "nerdctl", "buildah", "crictl", "finch")
_FIELD: Final = r"(?:image|baseImage|base_image|imageName)"
_PLACES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_PROGRAM}\s+(?:image\s+|container\s+)?(?:pull|run|create|from)\b{_OPTIONS}\s+{_IMAGE}",
        rf"\b(?:mvm\s+(?:image\s+)?pull|crane\s+pull){_OPTIONS}\s+{_IMAGE}",
        rf"(?:^\s*|`)FROM\s+(?:--platform=\S+\s+)?(?!scratch\b){_IMAGE}",
        rf"(?:^|[\s`{{,(-])[\"']?{_FIELD}[\"']?\s*[:=]\s*[\"'](?:docker://)?{_IMAGE}",
        rf"^\s*(?:-\s+)?{_FIELD}:\s+(?:docker://)?{_IMAGE}\s*(?:#.*)?$",
        rf"\b(?:oci|docker)://{_IMAGE}",
        rf"(?<![\w/.@-])(?=\S+/\S+:\S)(?=[\w-]+\.){_IMAGE}",
    )
)
#: Words that follow in prose, as in `docker run a command`, and types, as in `image: str`.
_NO_NAME: Final = re.compile(
    "image|a|an|and|as|in|is|it|of|or|that|the|this|with|your|not|for|str|bytes|string|object|none|null|true|false"
)
#: The name of a stage of a Dockerfile, from which later ones may begin.
_STAGE: Final = re.compile(r"^FROM\s+\S+\s+AS\s+(\S+)", re.IGNORECASE | re.MULTILINE)
#: Commands that give a name to an image instead of fetching one by it.
_NAMING: Final = re.compile(r"\b(?:build|tag|push|commit|load|save)\b[^`]*$")


def check_references(passage: Passage) -> Iterator[Match]:
    """Yield the images of commands and fields, and in prose those in code spans or with a registry and a tag."""
    seen = set[int]()
    stages = _stages(passage.section.text) if passage.is_code else frozenset()
    for pattern in _PLACES:
        for found in pattern.finditer(passage.text):
            begin = found.start("name")
            if begin in seen or found["name"] in stages:
                continue
            if not _is_pinned(found) and _is_reference(found, passage, pattern):
                seen.add(begin)
                yield Match(Rule.OCI_WITHOUT_DIGEST, begin, found["name"], "pin it by its digest: NAME@sha256:…")


@lru_cache(maxsize=16)
def _stages(text: str) -> frozenset[str]:
    """Return the names of stages in a section, which is asked for each of its lines."""
    return frozenset(found[1] for found in _STAGE.finditer(text))


def _is_pinned(found: re.Match[str]) -> bool:
    return found["digest"] is not None and _DIGEST.match(found["digest"]) is not None


def _is_reference(found: re.Match[str], passage: Passage, pattern: re.Pattern[str]) -> bool:
    """Return whether an image is meant that would be fetched by this name."""
    before = passage.text[: found.start("name")]
    if _NO_NAME.fullmatch(found["name"]) or _NAMING.search(before):
        return False
    if found["tag"] is not None or found["digest"] is not None:
        return True
    is_span = before.count("`") % 2 == 1
    return pattern is not _PLACES[-1] and (passage.is_code or is_span)
