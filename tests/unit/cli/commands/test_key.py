"""`mvm key`: keys are made once, for their maker's eyes alone."""

import os
from pathlib import Path

import pytest

from mvmnix.cli.output import TERMINAL, Terminal
from mvmnix.keys import Algorithm, PublicKey, Role
from mvmnix.provenance.identity.revocations import RevocationFile
from tests.unit.cli.station import Station

ROLES = ("builder", "planner", "host")


def test_a_key_is_made_and_shown(station: Station) -> None:
    for role in ROLES:
        made = station.mvm("key", "create", role)
        assert made.code == 0
        path = station.config / f"keys/{role}.pem"
        assert str(path) in made.err
        assert path.stat().st_mode & 0o777 == 0o600
        shown = station.mvm("key", "show", role)
        assert shown.out == made.out
        public = PublicKey.from_pem(made.out)
        line = shown.err.strip()
        revoked = RevocationFile.parse(f"version = 1\nserial = 1\n[[keys]]\n{line}\n".encode()).revocations
        assert revoked.keys == {public.fingerprint}, "as revocations.toml takes it"
        assert public.algorithm is Algorithm.ED25519
        result = station.mvm("key", "show", "--json", role).answer("key")
        assert result == {"role": role, "fingerprint": str(public.fingerprint), "pem": made.out}
        assert "PRIVATE" not in made.out + made.err + shown.out


def test_whatever_the_umask_says(station: Station) -> None:
    previous = os.umask(0)
    try:
        assert station.mvm("key", "create", "builder").code == 0
    finally:
        os.umask(previous)
    for path in (station.config, station.config / "keys"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (station.config / "keys/builder.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_replaced(station: Station) -> None:
    station.mvm("key", "create", "planner")
    path = station.config / "keys/planner.pem"
    before = path.read_bytes()
    said = station.mvm("key", "create", "planner")
    assert (said.code, said.out) == (2, "")
    assert f"{path} is there already" in said.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("role", ["builder", "planner"])
def test_keys_for_other_tools(station: Station, role: str) -> None:
    made = station.mvm("key", "create", role, "--algorithm", "ecdsa-p256")
    assert PublicKey.from_pem(made.out).algorithm is Algorithm.ECDSA_P256


def test_the_host_s_key_is_one_that_can_sign_the_log(station: Station) -> None:
    said = station.mvm("key", "create", "host", "--algorithm", "ecdsa-p256")
    assert (said.code, said.out) == (2, "")
    assert "ed25519" in said.err.lower()
    assert not list(station.config.glob("keys/*"))


def test_a_key_that_is_not_there(station: Station) -> None:
    said = station.mvm("key", "show", "host")
    assert (said.code, said.out) == (2, "")
    assert "mvm key create host" in said.err


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o007])
def test_a_key_that_others_can_read_is_refused(station: Station, mode: int) -> None:
    station.mvm("key", "create", "host")
    (station.config / "keys/host.pem").chmod(mode)
    said = station.mvm("key", "show", "host")
    assert said.code == 126
    assert "refused [key-permissions]" in said.err
    assert "chmod 600" in said.err


def test_a_directory_that_others_can_write_is_refused(station: Station) -> None:
    station.mvm("key", "create", "host")
    (station.config / "keys").chmod(0o777)
    assert "refused [state-permissions]" in station.mvm("key", "show", "host").err


def test_a_home_that_is_none(station: Station, tmp_path: Path) -> None:
    station.monkeypatch.setenv("HOME", "relative")
    assert station.mvm("key", "show", "host").code == 2
    station.monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert station.mvm("key", "create", "host").code in {125, 126}


def test_an_encrypted_key(station: Station) -> None:
    word = station.path / "word"
    word.write_text("correct horse\n")
    word.chmod(0o600)
    made = station.mvm("key", "create", "builder", "--password", f"file:{word}")
    assert made.code == 0
    assert "ENCRYPTED" in (station.config / "keys/builder.pem").read_text()
    said = station.mvm("key", "show", "builder")
    assert said.code == 126
    assert "refused [key-password]" in said.err
    config = station.config / "config.toml"
    config.write_text(f'version = 1\n[keys]\npassword = "file:{word}"\n')
    assert station.mvm("key", "show", "builder").out == made.out
    config.write_text('version = 1\n[keys]\npassword = "env:WORD"\n')
    station.monkeypatch.setenv("WORD", "wrong")
    assert "refused [key-password]" in station.mvm("key", "show", "builder").err
    station.monkeypatch.setenv("WORD", "correct horse")
    assert station.mvm("key", "show", "builder").out == made.out


def test_a_password_is_asked_for_once_at_a_terminal(station: Station) -> None:
    station.monkeypatch.setenv("WORD", "correct horse")
    made = station.mvm("key", "create", "builder", "--password", "env:WORD")
    asked: list[str] = []

    def prompt(text: str, **options: object) -> str:
        assert options == {"hide_input": True, "err": True}
        asked.append(text)
        return "correct horse"

    station.monkeypatch.setattr("mvmnix.cli.output.click.prompt", prompt)
    station.monkeypatch.setattr(Terminal, "can_ask", lambda _: True)
    with station.rooms(TERMINAL) as rooms:
        for _ in range(2):
            assert rooms.key(Role.BUILDER).public.pem == made.out
    assert asked == ["Password of the builder key"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("correct horse", "takes a reference"),
        ("env:", "takes a reference"),
        ("env:NOT_SET_ANYWHERE", "there is nothing"),
        ("file:/proc/nonexistent/word", "No such file"),
        ("file:loose", "chmod 600"),
        ("file:empty", "there is nothing"),
        ("file:bytes", "not UTF-8"),
    ],
)
def test_a_password_is_never_typed(station: Station, given: str, told: str) -> None:
    station.monkeypatch.chdir(station.path)
    for name, data, mode in (("loose", b"word", 0o644), ("empty", b"\n", 0o600), ("bytes", b"\xff", 0o600)):
        (station.path / name).write_bytes(data)
        (station.path / name).chmod(mode)
    said = station.mvm("key", "create", "builder", "--password", given)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert "horse" not in said.err
    assert not list(station.config.glob("keys/*"))
