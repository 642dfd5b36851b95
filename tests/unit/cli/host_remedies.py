"""Rows of test_remedies.py: refusals of a flake, the trust policy and the host's own state, and their remedies."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import PrivateKey
from mvmnix.model import FlakeRef
from tests.conftest import commit
from tests.unit.cli.plans import flake_of, set_mark
from tests.unit.cli.policies import keep_checkpoints, policy, serial
from tests.unit.cli.station import Said, Station

#: What a command said that was refused, and what the same says once the remedy was followed.
type Steps = Iterator[Said]
type Row = Callable[[Station], Steps]


def run(station: Station, reference: str = "") -> Said:
    return station.mvm("run", reference or flake_of(station), "--", "true")


def trust(station: Station, old: str, new: str) -> None:
    """Change the policy, and its serial with it."""
    policy(station, lambda text: text.replace(old, new).replace("serial = 1 ", "serial = 2 "))


# -- the flake


def flake_dirty(station: Station) -> Steps:
    path = station.flake_file(station.path / "flakes", "hello")
    commit(path)
    (path / "flake.nix").write_text("{ outputs = _: { }; }")
    station.built(FlakeRef(str(path), copy=True), "hello")
    yield run(station, str(path))
    yield run(station, f"path:{path}")


def flake_unsupported(station: Station) -> Steps:
    path = station.path / "flakes/hello"
    path.mkdir(parents=True)
    yield run(station, f"path:{path}")
    path.rmdir()
    yield run(station, station.flake())


def lock_malformed(station: Station) -> Steps:
    """`mvm lock` makes one in a builder VM: tests/builds/test_lock.py; here it is written as that does."""
    flake = flake_of(station)
    lock = station.path / "flakes/hello/flake.lock"
    lock.write_text("{")
    yield run(station, flake)
    lock.unlink()
    yield run(station, flake)


# -- the trust policy


def policy_missing(station: Station) -> Steps:
    assert run(station).code == 0
    (station.config / "trust.toml").unlink()
    yield run(station)
    assert station.mvm("policy", "create").code == 0
    yield run(station)


def policy_malformed(station: Station) -> Steps:
    flake = flake_of(station)
    policy(station, lambda text: text.replace("version = 1\n", "version = 1\nmore = 1\n"))
    yield run(station, flake)
    policy(station, lambda text: text.replace("more = 1\n", ""))
    yield run(station, flake)


def policy_empty(station: Station) -> Steps:
    flake = flake_of(station)
    policy(station, lambda text: text.replace('patterns = ["*"]', "patterns = []"))
    yield run(station, flake)
    policy(station, lambda text: text.replace("patterns = []", 'patterns = ["*"]'))
    yield run(station, flake)


def policy_widens(station: Station) -> Steps:
    flake, floor = flake_of(station), station.path / "etc"
    floor.mkdir(mode=0o755)
    text = (station.config / "trust.toml").read_text()
    (floor / "trust.toml").write_text(text.replace("allow-local = true", "allow-local = true\npairs = []"))
    trust(station, "[sources]", '[sources]\npairs = [["github:a/*", "github:b/*"]]')
    yield run(station, flake)
    policy(station, lambda text: text.replace('pairs = [["github:a/*", "github:b/*"]]\n', ""))
    yield run(station, flake)


def policy_expired(station: Station) -> Steps:
    flake = flake_of(station)
    text = (station.config / "trust.toml").read_text()
    year = text.partition("expires = ")[2][:4]
    trust(station, f"expires = {year}", "expires = 2020")
    yield run(station, flake)
    policy(station, lambda it: it.replace("expires = 2020", f"expires = {year}").replace("serial = 2 ", "serial = 3 "))
    yield run(station, flake)


def policy_rollback(station: Station) -> Steps:
    flake = flake_of(station)
    policy(station, serial(5))
    newer = (station.config / "trust.toml").read_text()
    assert run(station, flake).code == 0
    policy(station, serial(1))
    yield run(station, flake)
    (station.config / "trust.toml").write_text(newer)
    yield run(station, flake)


def in_a_checkout(variable: str) -> Callable[[Station], Steps]:
    """One of mvm's directories lies in the checkout that is the working directory."""

    def row(station: Station) -> Steps:
        flake, elsewhere = flake_of(station), station.path / "checkout/inside"
        elsewhere.mkdir(parents=True)
        commit(station.path / "checkout")
        station.monkeypatch.setenv(variable, str(elsewhere))
        station.monkeypatch.chdir(station.path / "checkout")
        yield run(station, flake)
        station.monkeypatch.delenv(variable)
        yield run(station, flake)

    return row


def source_not_admitted(station: Station) -> Steps:
    flake = flake_of(station)
    trust(station, "allow-local = true", "allow-local = false")
    yield run(station, flake)
    policy(
        station,
        lambda it: it.replace("allow-local = false", "allow-local = true").replace("serial = 2 ", "serial = 3 "),
    )
    yield run(station, flake)


def provenance_stale(station: Station) -> Steps:
    flake = flake_of(station)
    trust(station, "[launch]", '[freshness]\nprovenance = "1m"\n[launch]')
    later = now() + timedelta(hours=1)
    station.monkeypatch.setattr("mvmnix.api.image_builder.now", lambda: later)
    yield run(station, flake)
    policy(station, lambda it: it.replace('"1m"', '"1d"').replace("serial = 2 ", "serial = 3 "))
    yield run(station, flake)


def root_mismatch(station: Station) -> Steps:
    flake, root = flake_of(station), b"{}"
    pin = f'[[roots]]\nname = "ours"\nsha256 = "{Digest.of(root).hex}"\n'
    policy(station, lambda text: text.replace("[[builders]]", f"{pin}\n[[builders]]", 1))
    yield run(station, flake)
    (station.config / "roots").mkdir(mode=0o700)
    (station.config / "roots/ours.json").write_bytes(root)
    yield run(station, flake)


# -- the host's own state


def config_malformed(station: Station) -> Steps:
    flake, path = flake_of(station), station.config / "config.toml"
    path.write_text("version = 1\nmore = 1\n")
    yield run(station, flake)
    path.write_text("version = 1\n")
    yield run(station, flake)


def key_permissions(station: Station) -> Steps:
    flake, key = flake_of(station), station.config / "keys/planner.pem"
    key.chmod(0o644)
    yield run(station, flake)
    key.chmod(0o600)
    yield run(station, flake)


def key_malformed(station: Station) -> Steps:
    flake, key = flake_of(station), station.config / "keys/planner.pem"
    kept = key.read_bytes()
    key.write_bytes(b"no key")
    yield run(station, flake)
    key.write_bytes(kept)
    yield run(station, flake)


def key_password(station: Station) -> Steps:
    flake, keys = flake_of(station), station.config / "keys"
    station.monkeypatch.setenv("WORD", "hush")
    (keys / "planner.pem").unlink()
    assert station.mvm("key", "create", "planner", "--password", "env:WORD").code == 0
    with station.rooms() as rooms:
        key = PrivateKey.load(rooms.keys, "planner.pem", lambda: "hush").public.pem
    old = (station.config / "trust.toml").read_text()
    before = old.partition('name = "planner"')[2].partition('key = """\n')[2].partition('"""')[0]
    trust(station, before, key)
    yield run(station, flake)
    (station.config / "config.toml").write_text('version = 1\n[keys]\npassword = "env:WORD"\n')
    yield run(station, flake)


def state_permissions(station: Station) -> Steps:
    flake = flake_of(station)
    station.state.chmod(0o777)
    yield run(station, flake)
    station.state.chmod(0o755)
    yield run(station, flake)


def log_mismatch(station: Station) -> Steps:
    assert run(station).code == 0
    segment = station.state / "audit/0000000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"kind":"start"', b'"kind":"pause"'))
    yield run(station)
    (station.state / "audit").rename(station.state / "audit.bad")
    assert station.mvm("audit", "new-log").code == 0
    yield run(station)


def anchor_unavailable(station: Station) -> Steps:
    flake = flake_of(station)
    place = station.path / "usb"
    keep_checkpoints(station, place / "checkpoint")
    yield run(station, flake)
    place.mkdir(mode=0o700)
    yield run(station, flake)


def state_mismatch(station: Station) -> Steps:
    assert run(station).code == 0
    (station.state / "replay").rename(station.path / "replay")
    yield run(station)
    shutil.rmtree(station.state / "replay", ignore_errors=True)
    (station.path / "replay").rename(station.state / "replay")
    yield run(station)


def clock_went_back(station: Station) -> Steps:
    flake = flake_of(station)
    set_mark(station, timedelta(days=2))
    yield run(station, flake)
    set_mark(station, timedelta())
    yield run(station, flake)


HOST_ROWS: Final[Mapping[Code, Row]] = {
    Code.FLAKE_DIRTY: flake_dirty,
    Code.FLAKE_UNSUPPORTED: flake_unsupported,
    Code.LOCK_MALFORMED: lock_malformed,
    Code.POLICY_MISSING: policy_missing,
    Code.POLICY_MALFORMED: policy_malformed,
    Code.POLICY_EMPTY: policy_empty,
    Code.POLICY_WIDENS: policy_widens,
    Code.POLICY_EXPIRED: policy_expired,
    Code.POLICY_ROLLBACK: policy_rollback,
    Code.POLICY_LOCATION: in_a_checkout("XDG_CONFIG_HOME"),
    Code.STATE_LOCATION: in_a_checkout("XDG_STATE_HOME"),
    Code.SOURCE_NOT_ADMITTED: source_not_admitted,
    Code.PROVENANCE_STALE: provenance_stale,
    Code.ROOT_MISMATCH: root_mismatch,
    Code.CONFIG_MALFORMED: config_malformed,
    Code.KEY_PERMISSIONS: key_permissions,
    Code.KEY_MALFORMED: key_malformed,
    Code.KEY_PASSWORD: key_password,
    Code.STATE_PERMISSIONS: state_permissions,
    Code.LOG_MISMATCH: log_mismatch,
    Code.ANCHOR_UNAVAILABLE: anchor_unavailable,
    Code.STATE_MISMATCH: state_mismatch,
    Code.CLOCK_WENT_BACK: clock_went_back,
}
