"""A package URL names one package: its spellings are equal, other packages are not, and what is unclear is refused."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.provenance.slsa.in_toto import PACKAGE_LIMIT, PackageUrl

SCOPED = "pkg:npm/%40scope/name@1.0.0"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (SCOPED, ("npm", "@scope", "name", "1.0.0")),
        ("pkg:npm/name", ("npm", "", "name", None)),
        ("pkg:pypi/name@1.0%2Blocal", ("pypi", "", "name", "1.0+local")),
        ("pkg:golang/git.example/org/app@v1", ("golang", "git.example/org", "app", "v1")),
        ("pkg:generic/caf%C3%A9@1", ("generic", "", "café", "1")),
    ],
)
def test_the_fields_are_decoded_and_the_text_is_canonical(text: str, fields: tuple[str | None, ...]) -> None:
    found = PackageUrl.parse(text)
    assert (found.type, found.namespace, found.name, found.version) == fields
    assert str(found) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SCOPED, "pkg:npm/@scope/name@1.0.0"),
        (SCOPED, "pkg:npm/%40sc%6Fpe/n%61me@1.0%2E0"),
        (SCOPED, "pkg:NPM/%40scope/name@1.0.0"),
        ("pkg:npm/name@1.0.0+b", "pkg:npm/name@1.0.0%2Bb"),
        ("pkg:npm/name@1.0.0+b", "pkg:npm/name@1.0.0%2bb"),
        ("pkg:pypi/My_App@1", "pkg:pypi/my-app@1"),
        ("pkg:github/Org/App@v1", "pkg:github/org/app@v1"),
    ],
)
def test_spellings_of_one_package(one: str, other: str) -> None:
    assert PackageUrl.parse(one) == PackageUrl.parse(other)
    assert str(PackageUrl.parse(one)) == str(PackageUrl.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SCOPED, "pkg:npm/%40other/name@1.0.0"),
        (SCOPED, "pkg:npm/name@1.0.0"),
        (SCOPED, "pkg:npm/scope/name@1.0.0"),
        (SCOPED, "pkg:npm/%40scope/name@1.0.1"),
        (SCOPED, "pkg:npm/%40Scope/name@1.0.0"),
        (SCOPED, "pkg:pypi/%40scope/name@1.0.0"),
        # two packages of npm's registry (purl-spec, types/npm-definition.json)
        ("pkg:npm/Orchestrator@1.0.0", "pkg:npm/orchestrator@1.0.0"),
        ("pkg:npm/n%41me@1.0.0", "pkg:npm/name@1.0.0"),
        ("pkg:pypi/app@1.0A", "pkg:pypi/app@1.0a"),
        ("pkg:npm/name@1.0.0%25", "pkg:npm/name@1.0.0%2525"),
        ("pkg:npm/a@1@2", "pkg:npm/a@1"),
    ],
)
def test_other_packages(one: str, other: str) -> None:
    assert PackageUrl.parse(one) != PackageUrl.parse(other)
    assert not PackageUrl.parse(one).includes(PackageUrl.parse(other))


def test_a_package_without_a_version_includes_each_of_its_versions() -> None:
    package, version = PackageUrl.parse("pkg:npm/%40scope/name"), PackageUrl.parse(SCOPED)
    assert package.includes(version)
    assert package.includes(package)
    assert not version.includes(package)
    assert not package.includes(PackageUrl.parse("pkg:npm/name@1.0.0"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name@1.0.0",
        "npm/name@1.0.0",
        "PKG:npm/name",
        "pkg:npm",
        "pkg:npm/",
        "pkg:/name",
        "pkg:1npm/name",
        "pkg://npm/name",
        "pkg:npm//name",
        "pkg:npm/name/",
        "pkg:npm/@scope/",
        "pkg:npm/@scope",
        "pkg:npm/@1.0.0",
        "pkg:npm/name@",
        "pkg:npm/%40scope%2Fname@1.0.0",
        "pkg:npm/%40scope%2fname@1.0.0",
        "pkg:npm/name@1.0.0?repository_url=registry.test",
        "pkg:npm/name@1.0.0#lib",
        "pkg:npm/scope@1/name",
        "pkg:npm/name@/1",
        "pkg:npm/name@1.0.0%",
        "pkg:npm/name@1.0.0%4",
        "pkg:npm/name@1.0.0%zz",
        "pkg:npm/name%00@1.0.0",
        "pkg:npm/name%20@1.0.0",
        "pkg:npm/name%0A@1.0.0",
        "pkg:npm/name%C2%A0@1.0.0",
        "pkg:npm/name%FF@1.0.0",
        "pkg:npm/name%E2%80%AE@1.0.0",
        "pkg:npm/name @1.0.0",
        "pkg:npm/na\tme@1.0.0",
        "pkg:npm/café@1.0.0",
        "pkg:npm/name@1.0.0\n",
        " pkg:npm/name@1.0.0",
        "pkg:npm/[name]",
        "pkg:npm/" + "a" * PACKAGE_LIMIT,
    ],
)
def test_what_is_no_package_url(text: str) -> None:
    with pytest.raises(ValueError, match="package URL"):
        PackageUrl.parse(text)


VISIBLE = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1, max_size=20).filter(
    str.isprintable
)


@given(VISIBLE, VISIBLE, VISIBLE)
def test_what_is_encoded_is_what_is_read(scope: str, name: str, version: str) -> None:
    """So no two packages of npm have one URL."""
    text = f"pkg:npm/{quote(f'@{scope}', safe='')}/{quote(name, safe='')}@{quote(version, safe='')}"
    assert PackageUrl.parse(text) == PackageUrl("npm", f"@{scope}", name, version)
    assert PackageUrl.parse(str(PackageUrl.parse(text))) == PackageUrl.parse(text)


def test_the_longest() -> None:
    text = "pkg:npm/" + "a" * (PACKAGE_LIMIT - len("pkg:npm/"))
    assert str(PackageUrl.parse(text)) == text
