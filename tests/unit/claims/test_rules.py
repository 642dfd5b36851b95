"""Each rule finds what it is for, and leaves its near misses; corpora written apart measure the rules."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.claims.lint import Linter
from mvmnix.claims.rules import Rule
from mvmnix.claims.settings import ClaimSettings, Feature, Status

#: Features of the imaginary project that the corpora are about.
FEATURES = (
    Feature(Status.PLANNED, ("GPU passthrough", "live migration", "macOS hosts")),
    Feature(Status.PREVIEW, ("Firecracker", "KVM")),
)
CORPUS = Path(__file__).parent / "corpus"


def found(text: str, path: str = "page.md") -> set[str]:
    """Names of the rules that find something; every witness that is named exists."""
    linter = Linter(ClaimSettings(features=FEATURES), lambda _: b"def test_it(): pass\n", {})
    return {finding.rule.value for finding in linter.lint(linter.read(path, text.encode()))} - {Rule.MISSING_WITNESS}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("broad-phrase", "It is unhackable."),
        ("broad-phrase", "Guests can't be hacked, and secrets are impossible to steal."),
        ("broad-phrase", "Instantly boots; fully isolated."),
        ("claim-without-witness", "A guest can't reach the host's network."),
        ("claim-without-witness", "Every plan's signature is verified before the start."),
        ("claim-without-witness", "Only root can read the key."),
        ("unlabelled-feature", "Firecracker runs it."),
        ("unlabelled-feature", "Live-migration of machines."),
        ("oci-without-digest", "```sh\npodman run --rm debian:13 true\n```"),
        ("oci-without-digest", "```sh\ndocker run -itd --name web -p 80:80 --network host debian\n```"),
        ("oci-without-digest", "```yaml\nimage: registry.example/a/b:1\n```"),
        ("oci-without-digest", "```dockerfile\nFROM debian:13\n```"),
        ("oci-without-digest", "`docker pull a.example/b@sha256:0123abcd` shortens it."),
        ("credential", "```sh\nexport GITHUB_TOKEN=ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R\n```"),
        ("credential", "```sh\nDB_PASSWORD=correcthorse9 app\n```"),
        ("credential", "- Password: S3cr3tP4ss99"),
        ("credential", "The password is `korrekt7pferd`."),
        ("credential", "See `https://user:hunter2hunter@git.test/x`."),
        ("snapshot-without-backend", "A snapshot restores in 200 ms."),
        ("snapshot-without-backend", "Cold machines cost no memory."),
        ("isolation-of-emulation", "Under TCG you have the same isolation as in a VM."),
        ("isolation-of-emulation", "Containers are as secure as a microVM."),
    ],
)
def test_a_rule_finds_what_it_is_for(rule: str, text: str) -> None:
    assert rule in found(text)


@pytest.mark.parametrize(
    "text",
    [
        'Nobody says that it is "unhackable".',
        "It isn't fully isolated.",
        "A guest can't reach the host.\n\nWitness: `tests/unit/test_net.py::test_it`.",
        "Keep your keys where no other user can read them.",
        "This does not protect you from a malicious host.",
        "Firecracker (Planned) runs it.",
        "## Devices\n\nThey are Planned.\n\n- GPU passthrough",
        "## GPU passthrough (Planned)\n\nGPU passthrough hands a device on.",
        "Is it unhackable? No.",
        "Instant boot isn't what it does.",
        f"`docker run --name x -v /a:/b debian@sha256:{'a' * 64}`",
        f"`podman run debian@sha256:{'a' * 64}`",
        "`docker pull debian@sha256:…`",
        "```sh\ndocker build -t a.example/b:dev .\n```",
        "```dockerfile\nFROM debian@sha256:%s AS base\nFROM base\n```" % ("a" * 64),
        'Set `password = "env:PASSWORD"`, or hand in `<token>`.',
        "The digest is `sha256:%s`, the token's commit 0a1b2c3d4e5f60718293a4b5c6d7e8f901234567." % ("a" * 64),
        "The remote `https://user:token@git.test` is redacted in a log. Witness: `tests/a.py`.",
        "Under QEMU a snapshot restores in 200 ms.",
        "`mvm snapshot ls` lists the snapshots.",
        "A container is not as secure as a microVM.",
        "image: a text about images",
    ],
)
def test_near_misses_are_left(text: str) -> None:
    assert found(text) == set()


def test_python_is_read_by_its_docstrings_helps_and_lines() -> None:
    text = '''"""A guest can't reach the host."""
OPTION = option(help="Boots instantly.")
IMAGE = run("x", image="debian:13")


def read(image: str) -> None:
    """Read it.

    It is unhackable.
    """
'''
    linter = Linter(ClaimSettings(), lambda _: None, {})
    places = {
        (finding.line, finding.column, finding.rule.value)
        for finding in linter.lint(linter.read("a.py", text.encode()))
    }
    assert places == {
        (1, 12, "claim-without-witness"),
        (2, 23, "broad-phrase"),
        (3, 25, "oci-without-digest"),
        (9, 11, "broad-phrase"),
    }


def sentences(name: str) -> Iterator[tuple[set[str], set[str]]]:
    """What was expected and what was found for each text of a corpus."""
    for entry in tomllib.loads((CORPUS / name).read_text())["sentence"]:
        yield set(entry["rules"]), found(entry["text"])


def quality(name: str) -> tuple[float, float]:
    """Precision and recall over all rules of a corpus."""
    counts: Counter[str] = Counter()
    for wanted, got in sentences(name):
        counts["right"] += len(wanted & got)
        counts["wrong"] += len(got - wanted)
        counts["missed"] += len(wanted - got)
    return counts["right"] / (counts["right"] + counts["wrong"]), counts["right"] / (counts["right"] + counts["missed"])


@pytest.mark.parametrize(
    ("name", "precision", "recall"), [("first.toml", 0.95, 0.95), ("second.toml", 0.9, 0.93), ("third.toml", 0.9, 0.65)]
)
def test_a_corpus_is_found_as_well_as_it_was(name: str, precision: float, recall: float) -> None:
    """The rules were mended by these two; `third.toml` was written later, and no rule was mended by it."""
    assert quality(name) >= (precision, 0)
    assert quality(name)[1] >= recall
