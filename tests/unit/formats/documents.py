"""A document of each kind that people write, with everything in it; and values, most of them wrong at most places."""

import base64
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from mvmnix import config
from mvmnix.claims import settings
from mvmnix.formats import schemas, strict
from mvmnix.formats.strict import MalformedError, Record
from mvmnix.network.policy import presets
from mvmnix.provenance.identity import revocations
from mvmnix.provenance.policy import trust_text
from tests.unit.places import Place

VALIDATORS = {name: schemas.validator(name) for name in schemas.NAMES}
KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
SIGNER = "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
CONFIG = f"""
version = 1
[fetch]
hosts = ["sources.example", "sources.example:8443"]
loopback = ["http://127.0.0.1:8080"]
size-limit-mib = 1024
seconds = 60
parallel = 4
[[caches]]
url = "https://cache.example/nix"
keys = ["cache.example-1:{KEYS[0]}"]
[[credentials]]
node = "git+https://sources.example/*"
token = "env:TOKEN"
[[anchors]]
name = "stick"
required = true
file = "/media/stick/checkpoint"
[[anchors]]
name = "mail"
required = false
command = ["/usr/bin/mail", "-s", "checkpoint"]
seconds = 20
[[anchors]]
name = "git"
required = false
git = "/srv/log.git"
branch = "main"
[signing]
keyless = ["builder", "planner"]
sigstore = "file:/etc/sigstore.json"
identity-token = "file:/run/token"
[keys]
password = "env:PASSWORD"
[templates]
unasked = false
"""
TRUST = f"""
version = 1
serial = 7
expires = 2037-01-01T00:00:00Z
require-inclusion = false
[[signers]]
name = "builder"
roles = ["builder", "planner"]
key = "{SIGNER}"
log = "ours"
[[signers]]
name = "ci"
roles = ["builder"]
identity = "ci@example.test"
issuer-regexp = "https:.+"
root = "ours"
[[roots]]
name = "ours"
sha256 = "{"a" * 64}"
[[builders]]
id = "urn:mvmnix:builder:microvm:1"
signer = "builder"
level = 1
images = ["hello"]
builder-images = ["{"b" * 64}"]
[[builders]]
id = "urn:mvmnix:builder:host-nix:1"
signer = "builder"
level = 1
images = ["builder"]
[sources]
patterns = ["git+https://git.example/ours/*", "path:*"]
allow-local = true
inputs = ["github:NixOS/*"]
pairs = [["github:a/tools*", "github:b/tools/*"]]
[evaluation]
import-from-derivation = false
[[caches]]
key = "cache.example-1:{KEYS[1]}"
[thresholds]
plans = 1
rebuilds = 2
[freshness]
provenance = "90d"
plan-window = "24h"
plan-age = "30m"
snapshots-not-before = 2026-01-01T00:00:00Z
[[verifiers]]
signer = "builder"
id = "urn:example:gate"
max-age = "7d"
min-level = 1
resources = ["*"]
[launch]
isolation = "microvm"
network-proxy = false
unasked-verbs = false
warm-starts = false
imported-snapshots = true
"""
REVOCATIONS = f"""
version = 1
serial = 1
[[keys]]
sha256 = "{"c" * 64}"
reason = "stolen"
date = 2036-01-31T12:00:00Z
[[identities]]
identity-regexp = ".*@left[.]test"
issuer = "https://issuer.test"
reason = "left"
[[digests]]
sha256 = "{"d" * 64}"
"""


@dataclass(frozen=True)
class Document:
    """A document that is accepted; `beyond` are places where the reader knows more than a schema can say.

    At these places, by a pattern, the schema accepts whatever the reader does, and more.
    """

    schema: str
    text: str
    read: Callable[[Record], object]
    beyond: Mapping[str, str] = field(default_factory=dict)

    @property
    def value(self) -> Any:
        return tomllib.loads(self.text)

    def around(self, place: Place) -> Any:
        """The document with one of its tables, and what others name: its size is the time that this takes."""
        kept = {*place[:1], "signers", "roots", "allow"}
        return {name: it for name, it in self.value.items() if name in kept or not isinstance(it, dict | list)}

    def agree(self, value: Any, place: Place) -> bool:
        """Whether reader and schema accept a changed document; they have to agree, unless a schema can't."""
        by_schema = next(VALIDATORS[self.schema].iter_errors(value), None)
        try:
            strict.read(value, "it", self.read)
        except MalformedError as error:
            path = "".join(f".{step}" for step in place)
            known = any(fnmatchcase(path, pattern) for pattern in self.beyond)
            assert by_schema is not None or known, (place, value, error)
            return False
        assert by_schema is None, (place, by_schema)
        return True


PRESET = """
version = 1
description = "the company's index"
allow = ["https://index.example", "tcp:db.example:5432"]
deny = ["*.example.org"]
environment = { PIP_INDEX_URL = "https://index.example" }
"""
CLAIMS = """
version = 1
include = ["*.md"]
exclude = ["docs/adr/**"]
backends = ["QEMU"]
[[features]]
status = "preview"
words = ["KVM"]
[[exempt]]
paths = ["CHANGELOG.md"]
rules = ["broad-phrase"]
why = "history"
"""
ONCE = "no two have the same name"
NAMES = "it names a signer or a root of the file"
NAMED = "others name what is in it"
DOCUMENTS = {
    "config": Document("config", CONFIG, config._file, {".caches*": ONCE, ".anchors*.name": ONCE}),
    "trust": Document(
        "trust",
        TRUST,
        trust_text._file,
        {
            ".signers": NAMED,
            ".roots": NAMED,
            ".signers.?": NAMED,
            ".roots.?": NAMED,
            ".signers.*.name": f"{ONCE}, and {NAMED}",
            ".roots.*.name": f"{ONCE}, and {NAMED}",
            ".signers.*.log": NAMES,
            ".signers.*.root": NAMES,
            ".builders.*.signer": NAMES,
            ".verifiers.*.signer": NAMES,
            ".signers.*.key": "it is a key",
            ".signers.*regexp": "it is an expression that ends",
            ".signers.*.identity": "what is printable is Unicode's to say",
        },
    ),
    "revocations": Document(
        "revocations",
        REVOCATIONS,
        revocations._file,
        {".identities.*regexp": "it is an expression that ends", ".identities.*.issuer": "as identity above"},
    ),
    "claims": Document("claims", CLAIMS, settings._settings),
    "preset": Document(
        "preset",
        PRESET,
        partial(presets._read, name="preset"),
        {".allow*": "it is a rule that allows", ".deny*": "it is a rule that denies"},
    ),
}
TIME = datetime(2036, 1, 31, 12, tzinfo=UTC)
#: Values of TOML, most of them wrong at most places.
VALUES: tuple[object, ...] = (
    *(True, False, 0, 1, 2, -1, 3, 4, 16, 17, 64, 65, 300, 301, 86_400, 86_401, 2**20, 2**20 + 1, 2**53 - 1, 2**53),
    *(1.0, 1.5, float("inf"), TIME, TIME.replace(microsecond=1), TIME.replace(tzinfo=None), TIME.date(), TIME.time()),
    *(TIME.astimezone(timezone(timedelta(hours=1))), "2036-01-31T12:00:00Z"),
    *("", " ", "x", "x\n", "X", "x y", "/", "/x", "/x\n", "/x\0", "x" * 32, "x" * 33, "x" * 64, "x" * 65, "x" * 129),
    *("x" * 255, "x" * 256, "x" * 1024, "x" * 1025, "x" * 4096, "x" * 4097, "x" * 65_536, "x" * 65_537),
    *("/" + "x" * 4094, "/" + "x" * 4095, "/" + "x" * 4096),
    *("a" * 64, "A" * 64, "a" * 64 + "\n", "ü", "\x7f", "-", "a/b", "a//b", "../b", ".b", "*", "***", "****", "[!-~]"),
    *("env:X", "env:", "env:1", "file:/x", "file:x", "file:/", "production", "staging", "builder", "host", "owner"),
    *("90d", "0d", "36h", "30m", "1y", "d", "9999999d", "hardware", "microvm", "container", "container: not a microVM"),
    *(
        "admitted",
        "refused",
        "signer-unknown",
        "urn:mvmnix:builder:host-nix:1",
        "https://x.example/a",
        "http://x.example",
    ),
    *(
        "localhost",
        "x.localhost",
        "sources.example:0",
        "127.0.0.1",
        "http://127.0.0.1",
        "http:" + "//[::1]:1",
        "x.example",
    ),
    *(f"n:{KEYS[2]}", f"n:{KEYS[2][:-2]}B=", f"n:{KEYS[2]}\n", f":{KEYS[2]}", SIGNER, "(a+)+", "("),
    *([], [[]], [1], ["x"], ["x", "x"], ["builder"], ["hello"], ["*"], [["*", "*"]], [["*"]], ["signer-unknown"]),
    *(["/x"], ["x"] * 64, ["x"] * 65, ["x.example"] * 1024, ["x.example"] * 1025, [{}], {}, {"x": 1}),
)
