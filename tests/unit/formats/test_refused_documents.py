"""Documents that people write are refused with each of their mistakes, once, on its line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mvmnix import config
from mvmnix.claims.rules import Rule
from mvmnix.claims.settings import read_settings
from mvmnix.errors import MOST_REASONS, RefusedError
from mvmnix.formats import schemas, strict, toml
from mvmnix.formats.schemas import Mistake, merge
from mvmnix.formats.strict import Problem, Record
from mvmnix.network.policy.presets import parse_preset
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.policy import policy_files, trust_text
from mvmnix.system.private_dirs import Directory
from tests.repository import ROOT
from tests.unit.formats.documents import CLAIMS, CONFIG, DOCUMENTS, PRESET, REVOCATIONS, TRUST, VALIDATORS, VALUES
from tests.unit.import_lists import loaded_by
from tests.unit.places import Place, at, changed, places

READERS: dict[str, Callable[[bytes], object]] = {
    "config": config.parse,
    "trust": trust_text.parse,
    "revocations": RevocationFile.parse,
    "preset": partial(parse_preset, name="ours", path="ours.toml"),
    "claims": partial(read_settings, path="claims.toml"),
}
TEXTS = {"config": CONFIG, "trust": TRUST, "revocations": REVOCATIONS, "preset": PRESET, "claims": CLAIMS}


def found(read: Callable[[bytes], object], text: str | bytes) -> list[tuple[str, str]]:
    """Line and column of each reason, and what is wrong there."""
    with pytest.raises(RefusedError) as caught:
        read(text if isinstance(text, bytes) else text.encode())
    return [(reason.what.partition(".toml")[2].removeprefix(":"), reason.why) for reason in caught.value.reasons]


#: By document: its text, and what is wrong with it, line by line.
MISTAKES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "a configuration": (
        "config",
        """version = 2
fetch.hots = []
fetch.hosts = ["a.example",
  "http://x", "b.example", "localhost"]  # two of four
fetch.seconds = 0
[[caches]]
url = "https://cache.example"
keys = ["cache.example-1:AAAA"]
[[anchors]]
name = "stick"
required = 1
branch = "main"
[[anchors]]
name = "mail"
required = true
command = [ "mail", "-s" ]
[[anchors]]
name = "mail"
required = true
file = "/a"
seconds = 3
[signing]
keyless = ["host"]
""",
        [
            ("1:1", "version: not an integer from 1 to 1: '2'"),
            ("2:1", "[fetch] hots: unknown"),
            ("4:3", "[fetch] hosts[1]: not of the expected form: 'http://x'"),
            ("4:28", "[fetch] hosts[3]: not of the expected form: 'localhost'"),
            ("5:1", "[fetch] seconds: not an integer from 1 to 86400: '0'"),
            ("8:9", "[[caches]] keys[0]: not of the expected form: 'cache.example-1:AAAA'"),
            ("9:1", "[[anchors]]: an anchor is one of file, command and git"),
            ("11:1", "[[anchors]] required: not true or false: '1'"),
            ("16:13", "[[anchors]] command[0]: not of the expected form: 'mail'"),
            ("21:1", "[[anchors]] seconds: unknown"),
            ("23:12", "[signing] keyless[0]: 'host' is not one of builder, planner, verifier"),
        ],
    ),
    "a policy": (
        "trust",
        """version = 1
serial = "7"
expires = "2037-01-01T00:00:00Z"

[[signers]]
name = "builder"
roles = ["builder", "bulder"]
key = "MCow"
[[signers]]
name = "ci"
roles = []
identity = "a"
identity-regexp = "b"
issuer = "c"
root = "ours"
[[signers]]
name = "old"
roles = ["host"]
log = "none"

[[builders]]
id = "urn:mvmnix:builder:host-nix:1"
signer = "buidler"
level = 4
images = ["hello"]

[sources]
paterns = ["*"]
allow-local = "no"
pairs = [["a"], ["a", "b"]]

[launch]
isolation = "jail"
""",
        [
            ("2:1", "serial: not an integer from 1 to 9007199254740991: '7'"),
            ("3:1", "expires: not a time in UTC like 2036-01-31T12:00:00Z: '2037-01-01T00:00:00Z'"),
            ("7:21", "[[signers]] roles[1]: 'bulder' is not one of builder, planner, host, verifier"),
            ("8:1", "[[signers]] key: the key of signer 'builder': not the DER encoding of a public key"),
            ("9:1", "[[signers]]: identity and identity-regexp stand there both"),
            ("11:1", "[[signers]] roles: not an array of 1 to 16 values"),
            ("15:1", "[[signers]] root: there is no trust root 'ours'"),
            ("16:1", "[[signers]] identity: missing"),
            ("16:1", "[[signers]] issuer: missing"),
            ("16:1", "[[signers]] root: missing"),
            ("19:1", "[[signers]] log: unknown"),
            ("23:1", "[[builders]] signer: there is no signer 'buidler'"),
            ("24:1", "[[builders]] level: not an integer from 0 to 3: '4'"),
            ("25:11", "[[builders]] images[0]: 'hello' is not 'builder'"),
            ("27:1", "[sources] patterns: missing"),
            ("28:1", "[sources] paterns: unknown"),
            ("29:1", "[sources] allow-local: neither true nor false: 'no'"),
            ("30:10", "[sources] pairs[0]: not an array of 2 values at least"),
            ("33:1", "[launch] isolation: 'jail' is not one of hardware, microvm, container: not a microVM"),
        ],
    ),
    "revocations": (
        "revocations",
        """serial = 1
keys = [{ sha256 = "abc", reason = "" },
        { sha = "abc" }]
[[identities]]
isuer = "x"
[[digests]]
date = 2036-01-31
""",
        [
            ("", "version: missing"),
            ("2:11", "[[keys]] sha256: not a SHA-256 digest in hexadecimal: 'abc'"),
            ("2:27", "[[keys]] reason: not a string of the expected form: ''"),
            ("3:9", "[[keys]] sha256: missing"),
            ("3:11", "[[keys]] sha: unknown"),
            ("4:1", "[[identities]] identity: missing"),
            ("4:1", "[[identities]] issuer: missing"),
            ("5:1", "[[identities]] isuer: unknown"),
            ("6:1", "[[digests]] sha256: missing"),
            ("7:1", "[[digests]] date: not a time in UTC like 2036-01-31T12:00:00Z: '2036-01-31'"),
        ],
    ),
    "a preset": (
        "preset",
        """version = 1
more = 1
deny = [
  "example.org",
  "http:",
  7,
]
environment = { "a-b" = "c" }
""",
        [
            ("2:1", "more: unknown"),
            ("5:3", "deny[1]: not a port, '', in 'http:'"),
            ("6:3", "deny[2]: not a string: '7'"),
            ("8:1", "environment: 'a-b' is not the name of a variable"),
        ],
    ),
    "a preset of nothing": (
        "preset",
        "version = 1\n",
        [("", "one of `allow` and `deny` has a rule at least, and none stands there without one")],
    ),
    "settings of claim lint": (
        "claims",
        """version = 1
includes = ["*.md"]
[[features]]
status = "done"
[[exempt]]
paths = ["*"]
rules = ["broad-phrases"]
""",
        [
            ("2:1", "includes: unknown"),
            ("3:1", "[[features]] words: missing"),
            ("4:1", "[[features]] status: 'done' is not one of planned, preview"),
            ("5:1", "[[exempt]] why: missing"),
            ("7:10", f"[[exempt]] rules[0]: 'broad-phrases' is not one of {', '.join(Rule)}"),
        ],
    ),
    "no value": ("config", "version = 1\n[fetch]\nhosts =\n", [("3:8", "not TOML in UTF-8: Invalid value")]),
    "no end": ("config", 'version = 1\nx = """\n', [("3:1", "not TOML in UTF-8: Unterminated string")]),
    "no new key": ("config", "version = 1\nversion = 2", [("2:12", "not TOML in UTF-8: Cannot overwrite a value")]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_all_mistakes_have_their_lines(case: str) -> None:
    reader, text, told = MISTAKES[case]
    assert found(READERS[reader], text) == told


def test_bytes_that_are_no_text_have_a_line() -> None:
    [(line, why)] = found(config.parse, "version = 1\n# ä ".encode() + b"\xff")
    assert (line, "can't decode byte 0xff" in why) == ("2:5", True)


def test_what_no_line_can_be_given_for_has_none() -> None:
    assert found(config.parse, b"#" * (config.LIMIT + 1)) == [("", f"larger than {config.LIMIT} bytes")]
    assert found(config.parse, ".".join("a" * 40) + " = 1") == [("", "a key of more than 32 parts")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_value_that_is_wrong_is_one_reason_at_its_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One place is changed at a time; what others refer to by name is not, nor what has places within."""
    monkeypatch.setattr(schemas, "validator", VALIDATORS.__getitem__)
    document = DOCUMENTS[name]
    wrong = 0
    for place in places(document.value):
        if place and not (name == "trust" and place[0] in {"signers", "roots"} and place[2:] in {(), ("name",)}):
            for value in (value for value in VALUES if not isinstance(value, list | dict)):
                wrong += check_one(document.schema, document.read, changed(document.around(place), place, value), place)
    assert wrong > 300


def check_one(schema: str, read: Callable[[Record], object], value: object, place: Place) -> bool:
    """Whether it is refused; then it is for one reason, there or in the table that is there."""
    try:
        strict.read(value, "it", read)
    except strict.MalformedError as error:
        problems = [problem for problem in error.found if isinstance(problem, Problem)]
        assert len(problems) == len(error.found)
        told = [*merge(problems, schemas.find_mistakes(schema, value))]
        if at(value, place) == "urn:mvmnix:builder:host-nix:1":
            return True  # then the images of the rule are wrong, and not this
        assert len(told) == 1, (place, at(value, place), told)
        assert told[0][0][: len(place)] == place or place[: len(told[0][0])] == told[0][0]
        return True
    return False


#: What only a reader knows, by the text that is replaced: at most places it stops there.
BEYOND = {
    "config": ('name = "mail"', 'name = "stick"', "two anchors have the same name"),
    "trust": (
        'signer = "builder"\nlevel = 1\nimages = ["hello"]',
        'signer = "x"\nlevel = 1\nimages = ["hello"]',
        "no signer",
    ),
    "revocations": ('identity-regexp = ".*@', 'identity-regexp = "(@', "missing )"),
    "preset": ('deny = ["*.example.org"]', 'deny = ["http:"]', "deny[0]"),
    "claims": ('why = "history"', 'why = "x"', "why: not a string"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_reader_alone_knows_is_told_beside_what_the_schema_finds(name: str) -> None:
    old, new, told = BEYOND[name]
    text = TEXTS[name].replace("version = 1", "version = 2").replace(old, new)
    text += "" if name == "preset" else '[[caches]]\nkey = "x"\nurl = 1\n' if name == "config" else ""
    reasons = found(READERS[name], text)
    assert any(told in why for _, why in reasons), reasons
    assert any(why.startswith("version: ") for _, why in reasons), reasons


def test_a_reader_that_stops_is_told_only_where_the_schema_finds_nothing_within() -> None:
    table, array = Problem("it", ("a", 0), "stopped"), Problem("it", ("a", 0, "b"), "not an array of such")
    within, beside = Mistake(("a", 0, "b", 3), "wrong", ""), Mistake(("a", 1), "wrong", "expected x")
    assert [*merge([table], [within])] == [(("a", 0, "b", 3), "wrong", "")]
    assert [*merge([array, table], [within])] == [(("a", 0), "stopped", ""), (("a", 0, "b", 3), "wrong", "")]
    assert [*merge([table], [beside])] == [(("a", 0), "stopped", ""), (("a", 1), "wrong", "expected x")]
    same = Mistake(("a", 0), "one is missing", "expected one", frozenset({("a", 0, "b")}))
    assert [*merge([array], [same])] == [(("a", 0, "b"), "not an array of such", "expected one")]
    assert [*merge([table], [same])] == [(("a", 0), "stopped", "expected one")]


def test_as_many_are_told_as_of_any_refusal() -> None:
    text = "version = 1\n" + "".join(f"k{number} = 1\n" for number in range(4_000))
    reasons = found(config.parse, text)
    assert len(reasons) == MOST_REASONS + 1
    assert reasons[0] == ("2:1", "k0: unknown")
    assert reasons[-2] == (f"{MOST_REASONS + 1}:1", f"k{MOST_REASONS - 1}: unknown")
    assert reasons[-1][1] == f"and {4_000 - MOST_REASONS} reasons more"


def test_lines_of_a_document_that_is_too_long_for_the_schema() -> None:
    entries = "".join(f'[[digests]]\nsha256 = "{number:064x}"\n' for number in range(2_000))
    text = f'version = 1\nserial = 1\n{entries}[[digests]]\nsha256 = "abc"\n'
    assert len(text) > toml._EXPLAINED
    assert found(RevocationFile.parse, text) == [
        ("4004:1", "[[digests]] sha256: not a SHA-256 digest in hexadecimal: 'abc'")
    ]


def test_files_are_named_by_their_paths(tmp_path: Path) -> None:
    for name in ("etc", "home"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "trust.toml").write_text("version = 1\nserial = 0\n")
        (tmp_path / name / "revocations.toml").write_text("version = 1\nserial = 1\n")
    for name in ("etc", "home"):
        with Directory.open(str(tmp_path / name)) as directory, pytest.raises(RefusedError) as caught:
            policy_files.Files(directory)
        missing, wrong = caught.value.reasons
        assert missing.what == f"{tmp_path}/{name}/trust.toml"
        assert wrong.what == f"{tmp_path}/{name}/trust.toml:2:1"
        (tmp_path / name / "trust.toml").unlink()
        (tmp_path / name / "revocations.toml").write_text("version = 1\nserial = 1\nmore = 1\n")
        with Directory.open(str(tmp_path / name)) as directory, pytest.raises(RefusedError) as caught:
            policy_files.Files(directory)
        assert [reason.what for reason in caught.value.reasons] == [f"{tmp_path}/{name}/revocations.toml:3:1"]


def test_a_document_that_is_accepted_pays_nothing() -> None:
    """Neither the schemas, nor what finds lines."""
    calls = [
        f"import sys; sys.path.insert(0, {str(ROOT)!r})",
        "from mvmnix import config",
        "from mvmnix.provenance.policy import trust_text",
        "from mvmnix.provenance.identity.revocations import RevocationFile",
        "from mvmnix.network.policy.presets import parse_preset",
        f"config.parse({CONFIG.encode()!r})",
        f"trust_text.parse({TRUST.encode()!r})",
        f"RevocationFile.parse({REVOCATIONS.encode()!r})",
        f"parse_preset({PRESET.encode()!r}, 'ours', 'ours.toml')",
    ]
    paid = {"jsonschema", "referencing", "mvmnix.formats.schemas", "mvmnix.formats.toml_positions"}
    assert not paid & loaded_by("\n".join(calls))
    refused = [*calls, "try: config.parse(b'version = 2')", "except Exception: pass"]
    assert paid <= loaded_by("\n".join(refused))
