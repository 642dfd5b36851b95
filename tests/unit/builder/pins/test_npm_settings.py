"""Which registries npm is configured for, by its files and variables."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.builder.pins import configured
from mvmnix.errors import MvmnixError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("registry=https://npm.example/", [("registry", "https://npm.example/")]),
        ("  registry = 'https://npm.example/'  ", [("registry", "https://npm.example/")]),
        ('registry="https://npm.example/"\n', [("registry", "https://npm.example/")]),
        ("@ours:registry=https://npm.ours.example", [("@ours:registry", "https://npm.ours.example")]),
        ("; registry=https://a.example\n# registry=https://b.example", []),
        ("//npm.example/:_authToken=secret\nstrict-ssl=false\nregistry-x=y", []),
        (
            "registry=https://a.example\nregistry=https://b.example",
            [("registry", "https://a.example"), ("registry", "https://b.example")],
        ),
    ],
)
def test_what_a_file_says(text: str, found: list[tuple[str, str]]) -> None:
    assert list(configured.parse_npmrc(text)) == found


def test_a_variable_in_a_file_is_not_supported() -> None:
    with pytest.raises(MvmnixError, match="takes registry from a variable"):
        list(configured.parse_npmrc("registry=https://${HOST}/"))


def urls(environment: dict[str, str], usual: Callable[[], str] | None = None) -> list[str]:
    return list(configured.npm_registries(environment, usual).values())


def test_a_variable_beats_the_user_s_file_which_beats_the_machine_s(tmp_path: Path) -> None:
    (tmp_path / "global").write_text("registry=https://machine.example\n@ours:registry=https://ours.example\n")
    environment = {"HOME": str(tmp_path), "NPM_CONFIG_GLOBALCONFIG": str(tmp_path / "global")}
    assert urls(environment) == ["https://machine.example", "https://ours.example"]
    (tmp_path / ".npmrc").write_text("registry=https://user.example\n")
    assert urls(environment) == ["https://user.example", "https://ours.example"]
    assert urls(environment | {"npm_config_registry": "https://said.example"}) == [
        "https://said.example",
        "https://ours.example",
    ]
    (tmp_path / "other").write_text("registry=https://other.example\n")
    assert urls(environment | {"NPM_CONFIG_USERCONFIG": str(tmp_path / "other")})[0] == "https://other.example"


def test_without_a_registry_npm_s_own_counts(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "NPM_CONFIG_GLOBALCONFIG": str(tmp_path / "none")}
    assert urls(environment, lambda: "https://usual.example/") == ["https://usual.example/"]
    (tmp_path / ".npmrc").write_text("@ours:registry=https://ours.example\n")
    assert urls(environment, lambda: "https://usual.example/") == ["https://ours.example", "https://usual.example/"]
    (tmp_path / ".npmrc").write_text("registry=https://user.example\n")
    assert urls(environment, lambda: pytest.fail("nobody asks")) == ["https://user.example"]


@pytest.fixture
def npmrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that npm is configured by, and nothing else; there is none yet."""
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_GLOBALCONFIG", str(tmp_path / "none"))
    return tmp_path / ".npmrc"


def test_a_guest_is_told_of_the_registry_without_its_credentials(npmrc: Path) -> None:
    npmrc.write_text("registry=https://me:hush@npm.example/\n@ours:registry=https://ours.example\n")
    found = configured.client_settings("npm")
    assert found.urls == ("https://me:hush@npm.example/", "https://ours.example")
    assert found.environment == {"NPM_CONFIG_REGISTRY": "https://npm.example/"}
    assert "hush" not in repr(found)


@pytest.mark.parametrize("url", ["https://npm.example/?token=hush", "https://npm.example/#hush"])
def test_a_guest_is_told_of_no_registry_with_a_query_or_fragment(npmrc: Path, url: str) -> None:
    npmrc.write_text(f"registry={url}\n")
    assert configured.client_settings("npm").environment == {}


@pytest.mark.parametrize("url", ["https://me:hush/hush@npm.example/", "HTTPS://me:12/hush@npm.example/"])
def test_a_registry_with_a_host_that_may_be_a_credential_is_refused(npmrc: Path, url: str) -> None:
    npmrc.write_text(f"registry=https://npm.example/\n@ours:registry={url}\n")
    with pytest.raises(MvmnixError, match="can't be told from credentials") as error:
        configured.client_settings("npm")
    assert "hush" not in f"{error.value}{error.value.__cause__}"
