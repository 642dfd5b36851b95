"""Reads manifest.json, the one contract between the Nix side and this one, into an Image; no file, no clock.

The grammar is `manifest.schema.json`; this parser accepts exactly what the schema does and the constructors of the
nouns allow, and a test holds the two together.
"""

from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats.strict import MalformedError, Record, parse_json, read
from mvmnix.model import SYSTEM, Artifact, Image, Posture, Source, SystemCalls, User, Verb, Verity, Workload

#: A manifest larger than this is refused unread; the builder's own is under 100 kB.
LIMIT: Final = 4 * 1024 * 1024
#: Largest size of each file that a manifest may describe, in bytes.
LARGEST: Final = {"kernel": 1 << 28, "initrd": 1 << 28, "rootfs": 1 << 34}

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATH: Final = r"/[^\x00\n]{0,4094}"
_SALT: Final = r"([0-9a-f]{2}){0,256}"
_UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORDS: Final = r"[!-~]+( [!-~]+)*"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_STORE_NAME: Final = r"(?!\.\.?(-|$))[0-9a-zA-Z+._?=-]{1,211}"
_URI: Final = r"[a-z+]+://[!-~]+"


def _artifact(name: str, record: Record) -> Artifact:
    record.text("file", name)
    return Artifact(name, record.digest(), record.integer("size", 1, LARGEST[name]))


def _artifacts(record: Record) -> tuple[Artifact, Artifact, Artifact]:
    kernel = record.child("kernel", lambda r: _artifact("kernel", r))
    initrd = record.child("initrd", lambda r: _artifact("initrd", r))
    rootfs = record.child("rootfs", lambda r: _artifact("rootfs", r))
    return kernel, initrd, rootfs


def _verity(record: Record) -> Verity:
    record.text("algorithm", "sha256")
    record.integer("blockSize", Verity.BLOCK, Verity.BLOCK)
    return Verity(
        root=record.digest("root"),
        salt=bytes.fromhex(record.text("salt", _SALT)),
        uuid=record.text("uuid", _UUID),
        data_blocks=record.integer("dataBlocks", 1, 2**40),
        hash_offset=record.integer("hashOffset", Verity.BLOCK, 2**52),
    )


def _user(record: Record) -> User:
    return User(record.integer("uid", 1, 2**32 - 2), record.integer("gid", 1, 2**32 - 2))


def _environment(record: Record) -> dict[str, str]:
    return {name: record.text(name) for name in record.names()}


def _workload(record: Record) -> Workload:
    environment = record.child("environment", _environment)
    for name in environment:
        if not name.isascii() or not name.isidentifier():
            raise MalformedError(f"environment: {name!r} is not a variable's name")
    return Workload(
        argv=record.texts("command", limit=1024),
        environment=environment,
        directory=record.text("directory", _PATH),
        user=record.child("user", _user),
    )


def _source(record: Record) -> Source:
    return Source(record.text("uri", _URI), record.text("name", _STORE_NAME), record.digest())


def _system_calls(record: Record) -> SystemCalls:
    """Left out where it is the usual one, as in images that were made before there was another."""
    return record.choice("systemCalls", SystemCalls) if record.has("systemCalls") else SystemCalls.DEFAULT


def _network(record: Record) -> bool:
    """Left out where there is none, as in images that were made before there could be one."""
    return record.flag("network") if record.has("network") else False


def _distinct[T](name: str, values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise MalformedError(f"{name}: a value is listed twice")
    return values


def _image(record: Record, data: bytes) -> Image:
    record.integer("version", 1, 1)
    record.text("system", SYSTEM)
    kernel, initrd, rootfs = record.child("artifacts", _artifacts)
    return Image(
        name=record.text("name", _NAME),
        manifest=Artifact("manifest.json", Digest.of(data), len(data)),
        kernel=kernel,
        initrd=initrd,
        rootfs=rootfs,
        verity=record.child("verity", _verity),
        command_line=record.text("kernelCommandLine", _WORDS, limit=2047),
        workload=record.child("workload", _workload),
        vcpus=record.integer("vcpus", 1, 64),
        memory_mib=record.integer("memoryMiB", 96, 2**20),
        scratch_mib=record.integer("scratchMiB", 1, 2**20),
        posture=record.choice("posture", Posture),
        verbs=frozenset(map(Verb, _distinct("verbs", record.texts("verbs", "|".join(Verb), limit=len(Verb))))),
        writable=_distinct("writable", record.texts("writable", _PATH, limit=64)),
        sources=record.each("sources", _source),
        system_calls=_system_calls(record),
        network=_network(record),
    )


def parse(data: bytes) -> Image:
    """The image that these bytes describe. Raises RefusedError MANIFEST_MALFORMED, naming all problems."""
    try:
        if len(data) > LIMIT:
            raise MalformedError(f"larger than {LIMIT} bytes")  # noqa: TRY301 - one way out for all problems
        return read(parse_json(data), "manifest", lambda record: _image(record, data))
    except MalformedError as error:
        hint = "build the image again: `mvm build --again FLAKE`; a manifest is written by mkGuest alone"
        raise error.refused(ReasonCode.MANIFEST_MALFORMED, "manifest.json", hint) from error
