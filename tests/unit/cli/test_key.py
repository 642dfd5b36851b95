"""`mvm key`: keys are made once, for their maker's eyes alone."""

import os
from pathlib import Path

import pytest

from mvmnix.keys import Algorithm, PublicKey
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
    assert (said.code, said.out) == (125, "")
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
