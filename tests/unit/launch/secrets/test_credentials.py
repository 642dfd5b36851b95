"""What looks like a credential is refused without being repeated; what only looks long is not."""

import base64
import hashlib
import random
import re
import string
import uuid

import pytest
from detect_secrets.plugins.keyword import DENYLIST
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.secrets import credentials, detectors
from mvmnix.launch.secrets.credentials import in_command, in_texts, of_members
from mvmnix.model import User, Workload
from mvmnix.plan.plan import Plan
from tests.unit.provenance.world import World, new_world

#: Written in halves, so that no scanner takes this file for a leak.
AWS = "AKIA" + "IOSFODNN7EXAMPLF"
GITHUB = "ghp_" + "aB3dE6gH9" * 4
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', b"s" * 32)
)
RANDOM = "q7Yt2LmZ0" + "xK8vR4wB6nD1sP3h"

CREDENTIALS = {
    "an option with its value": (("deploy", "--password=hunter2"), "hunter2"),
    "an option before its value": (("deploy", "--password", "hunter2"), "hunter2"),
    "a token": (("deploy", "--api-token", "abcdef123"), "abcdef123"),
    "a variable for env": (("env", "DB_PASSWORD=hunter2", "serve"), "hunter2"),
    "a variable in a shell's line": (("sh", "-c", "export DB_PASSWORD=hunter2; serve"), "hunter2"),
    "an option in a shell's line": (("sh", "-c", "serve --password hunter2 --port 80"), "hunter2"),
    "a variable in a script": (("python3", "-c", 'import db\npassword = "hunter2"\n'), "hunter2"),
    "a file of variables": (("sh", "-c", "cat >.env <<END\nPORT=80\nAPI_TOKEN=abcdef123\nEND"), "abcdef123"),
    "a password in a URL": (("psql", "postgres://me:hunter2@db.test/app"), "hunter2"),
    "a header": (("fetch", "-H", f"Authorization: Bearer {RANDOM}"), RANDOM),
    "an AWS key's id": (("deploy", AWS), AWS),
    "a GitHub token": (("deploy", GITHUB), GITHUB),
    "a JSON web token": (("deploy", JWT), JWT),
    "a private key": (("deploy", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\n"), "MIIEpAIB"),
    "a random string": (("deploy", RANDOM), RANDOM),
    "the program itself": ((GITHUB,), GITHUB),
    "a line that says it is allowed": (("sh", "-c", f"deploy {AWS}  # pragma: allowlist secret"), AWS),
}

HARMLESS = {
    "a program and words": ("/bin/hello", "world", "--verbose", "-n", "3"),
    "a calculation": ("/usr/bin/python3", "-c", "print(6 * 7)"),
    "a SHA-256": ("check", hashlib.sha256(b"x").hexdigest(), f"sha256:{hashlib.sha256(b'y').hexdigest()}"),
    "a commit": ("checkout", hashlib.sha1(b"x", usedforsecurity=False).hexdigest()),
    "a digest in SRI": ("check", "sha256-" + base64.b64encode(hashlib.sha256(b"x").digest()).decode()),
    "an OCI reference": ("pull", f"oci://registry.test/app@sha256:{hashlib.sha256(b'z').hexdigest()}"),
    "a store path": ("/nix/store/0zq1l6pfhg8sbv4xkdwn5ay7crm2ij39-python3-3.13.5-env/bin/python3", "--version"),
    "a UUID": (
        "mount",
        str(uuid.UUID(int=0x12345678123442348234123456789ABC)),
        "UUID=9f3C1b2e-8D4a-4b6c-9E1f-0A2b3C4d5E6f",
    ),
    "a long word": ("spell", "pneumonoultramicroscopicsilicovolcanoconiosis", "Donaudampfschifffahrtsgesellschaft"),
    "words written together": (
        "run",
        "org.example.AbstractSingletonProxyFactoryBean2024",
        "USB-Audio/BridgeCastV2.conf",
    ),
    "a long path": (
        "/usr/lib/x86_64-linux-gnu/libQt5Quick3DRuntimeRender.so.5",
        "/home/me/MyProjectIsVeryLong2024/srcMain",
    ),
    "a URL": ("fetch", "https://example.test/Some/Long-Path_With123/AndMoreThings456?q=1&page=2"),
    "a file with a password": ("serve", "--password-file", "/run/secrets/db", "--token-file=/run/secrets/t"),
    "a variable that names a file": ("env", "POSTGRES_PASSWORD_FILE=/run/secrets/pw"),
    "a variable of the shell": ("sh", "-c", 'serve --password "$PASSWORD" --token=$TOKEN --secret ${SECRET}'),
    "a reference": ("mvm", "run", "--token", "env:TOKEN", "--password=file:/etc/pw"),
    "a command that asks": (
        "python3",
        "-c",
        "import getpass\npassword = getpass.getpass()\nself.password = password\n",
    ),
    "about secrets": ("serve", "--token-length", "32", "--password-policy=strong", "--secret-name", "database"),
    "an answer": ("serve", "--password=prompt", "--token", "stdin", "--secret", "false"),
    "the alphabet": ("tr", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[:36]),
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_a_credential_in_a_command_is_refused_and_not_repeated(case: str) -> None:
    argv, credential = CREDENTIALS[case]
    with pytest.raises(RefusedError) as refused:
        credentials.refuse_typed(argv, {})
    assert set(refused.value.codes) == {ReasonCode.PLAINTEXT_CREDENTIAL}
    told = str(refused.value) + repr(refused.value) + repr(list(in_command(argv)))
    assert credential not in told
    assert re.search(r"--secret (\w+)=env:\1\b", told)
    assert refused.value.exit_code == 126


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_no_credential_passes(case: str) -> None:
    assert list(in_command(HARMLESS[case])) == []


def test_the_message_says_where_and_what_to_call_it() -> None:
    (found,) = in_command(("deploy", "--verbose", "--db-password", "hunter2"))
    assert (found.where, found.name) == ("argument 3 of the command", "DB_PASSWORD")
    assert "--secret DB_PASSWORD=env:DB_PASSWORD" in found.reason.hint


def test_values_of_variables() -> None:
    variables = {"PATH": "/bin:/usr/bin", "DB_PASSWORD": "hunter2", "NOTE": GITHUB, "LANG": "C.UTF-8"}
    found = list(in_texts(of_members("variable", variables)))
    assert [suspect.where for suspect in found] == [
        "the value of the variable DB_PASSWORD",
        "the value of the variable NOTE",
    ]
    assert "hunter2" not in repr(found)


@pytest.fixture
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    world: World = new_world(tmp_path_factory.mktemp("world"))
    return world.plan()


def test_every_text_of_a_plan_is_looked_at(plan: Plan) -> None:
    from dataclasses import replace

    credentials.refuse_in_plan(plan)
    work, user = plan.workload, User(1000, 1000)
    for changed in (
        replace(plan, workload=replace(work, argv=(*work.argv, GITHUB))),
        replace(plan, workload=replace(work, environment={"X": GITHUB})),
        replace(plan, workload=Workload(work.argv, {}, f"/{GITHUB}", user)),
        replace(plan, command_line=f"{plan.command_line} token={GITHUB}"),
    ):
        with pytest.raises(RefusedError) as refused:
            credentials.refuse_in_plan(changed)
        assert set(refused.value.codes) == {ReasonCode.PLAINTEXT_CREDENTIAL}
        assert GITHUB not in str(refused.value)


def test_all_places_are_named_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        credentials.refuse_typed(("deploy", AWS, "ok", GITHUB), {})
    assert len(refused.value.reasons) == 2


PATTERNS = [pattern for detector in detectors._by_pattern() for pattern in detector.denylist]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:40])
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_quick_look_drops_nothing_that_a_detector_finds(pattern: "re.Pattern[str]", data: st.DataObject) -> None:
    found = data.draw(st.from_regex(pattern, alphabet=st.characters(codec="ascii")))
    assert credentials._WORTH_A_LOOK.search(found)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(st.from_regex(credentials._ORDINARY, fullmatch=True), min_size=1, max_size=8))
def test_no_detector_finds_anything_in_ordinary_words(words: list[str]) -> None:
    text = " ".join(words)
    assume(credentials._is_ordinary(text))
    assert not list(credentials.kinds_by_form(text))


@pytest.mark.parametrize("name", DENYLIST)
def test_no_name_of_the_library_s_list_is_overlooked(name: str) -> None:
    """They are patterns, such as `api_?key`."""
    assert credentials._SECRET_NAME.search(name)


def test_a_plan_of_ordinary_words_needs_no_detector(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own fields are most of a plan, and each start would pay for them."""
    monkeypatch.setattr(detectors, "kinds_of", pytest.fail)
    monkeypatch.setattr(detectors, "named_secret", pytest.fail)
    credentials.refuse_in_plan(plan)


@pytest.mark.parametrize("keyword", ["api_key", "db_pass", "password", "passwd", "pwd", "secret", "private_key"])
def test_the_quick_look_lets_the_library_see_each_keyword(keyword: str) -> None:
    assert detectors.named_secret(keyword, "hunter2")
    assert [found.name for found in in_command(("deploy", f"--{keyword}=hunter2"))] == [keyword.upper()]


def test_most_random_strings_are_found() -> None:
    """A rule by chance has no other measure; a fixed seed, so that it says the same each time."""
    chance = random.Random(5)
    alphabet = string.ascii_letters + string.digits
    drawn = ["".join(chance.choices(alphabet, k=40)) for _ in range(300)]
    assert sum(bool(list(in_command((word,)))) for word in drawn) > 270
