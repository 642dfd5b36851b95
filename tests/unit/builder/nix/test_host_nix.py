"""The host's Nix as programs: which are taken, with which store, and what a daemon says that is asked."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.builder.nix import host_nix, store_choice
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.errors import MvmnixError
from mvmnix.system import process
from mvmnix.system.process import Completed, ProcessError
from mvmnix.system.roots import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots.from_environment({"HOME": str(tmp_path)})


def chosen(monkeypatch: pytest.MonkeyPatch, kind: StoreKind) -> None:
    monkeypatch.setattr(host_nix, "choose", lambda own, _: NixStore(kind, "so", own if kind is StoreKind.OWN else ""))


def test_a_users_own_store_is_made_for_this_user_alone(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, StoreKind.OWN)
    own = tmp_path / ".local/share/mvmnix/nix"
    assert HostNix.look(roots).store.root == str(own)
    assert not list(tmp_path.iterdir()), "a look changes nothing"
    assert HostNix.find(roots).store.root == str(own)
    assert own.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", [StoreKind.DAEMON, StoreKind.SHARED])
def test_another_store_leaves_no_trace(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: StoreKind
) -> None:
    chosen(monkeypatch, kind)
    assert HostNix.find(roots).store == NixStore(kind, "so")
    assert not list(tmp_path.iterdir())


def test_every_call_names_the_store_first(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostNix.find(roots)
    calls: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], **_: object) -> Completed:
        calls.append(argv)
        return Completed(argv, 0, b"said", b"")

    monkeypatch.setattr(process, "run", run)
    assert host.run(["/n/nix", "eval", "x"]) == b"said"
    assert calls == [("/n/nix", *host.store.options, "eval", "x")]


def test_without_nix(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_nix, "NIX", replace(host_nix.NIX, paths=("/proc/nonexistent/nix",)))
    with pytest.raises(MvmnixError, match="nix is not installed") as error:
        HostNix.find(roots)
    assert error.value.hint == "apt-get install nix-bin"


def test_a_daemon_that_can_not_be_used_is_quoted(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its words or Nix's, the first cause alone."""
    words = b"warning: x\nerror: user 'u' is not allowed to connect to the Nix daemon\n"
    asked: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], **_: object) -> Completed:
        asked.append(argv)
        raise ProcessError(Completed(argv, 1, b"", words))

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(store_choice, "_may_write", lambda path: path.endswith("socket"))
    monkeypatch.setattr("os.path.exists", lambda _: True)
    monkeypatch.setattr(store_choice, "_doubt", lambda _: "")
    store = HostNix.look(roots).store
    assert store.kind is StoreKind.OWN
    assert "error: user 'u' is not allowed to connect to the Nix daemon" in store.why
    assert [argv[1:3] for argv in asked] == [("--store", "daemon")]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("error: opening lock file '/nix/var/nix/db/big-lock': Permission denied", "`mvm doctor` says which Nix store"),
        ("error: creating directory '/nix/store/.links': Read-only file system", "`mvm doctor` says which Nix store"),
        ("error: writing to file: No space left on device", "make room where /o/nix/store lies"),
        ("error: click.whl is pinned but not in the store. Run: mvm pin fetch", "mvm pin fetch"),
        ("error: this system does not support the kernel namespaces", "user namespaces"),
        ("error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket'", "journalctl -u nix-daemon"),
        ("error: path '/nix/store/x' is corrupted", "nix-store --store 'local?root=/o' --option"),
        ("error: something else", "that line is Nix's own; it worked on the store in /o/nix/store (own"),
        ("", "that line is Nix's own"),
    ],
)
def test_advice_is_about_the_cause_and_never_to_install_what_is_there(
    monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    def run(argv: tuple[str, ...], **_: object) -> Completed:
        raise ProcessError(Completed(argv, 1, b"", f"warning: x\n{said}\n       and more\n".encode()))

    host = HostNix("/n/nix", "/n/nix-store", NixStore(StoreKind.OWN, "no other", "/o"))
    monkeypatch.setattr(process, "run", run)
    paths = [f"/nix/store/{number:032}-x" for number in range(200)]
    with pytest.raises(ProcessError) as error:
        host.run(["/n/nix-store", "--check-validity", *paths])
    assert advice in error.value.hint
    assert "install" not in str(error.value)
    assert said in error.value.message
    assert len(str(error.value)) < 1200


def test_what_is_gone_since_it_was_found_is_to_be_installed() -> None:
    host = HostNix("/proc/nonexistent/nix", "/n/nix-store", NixStore(StoreKind.OWN, "no other", "/o"))
    with pytest.raises(ProcessError) as error:
        host.run(["/proc/nonexistent/nix", "--version"])
    assert error.value.hint == "apt-get install nix-bin"
