"""What a gateway and a dialer are given: their code, the resolver's settings, and the filter that they serve under."""

import os
from pathlib import Path
from typing import cast

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.network.host import setup
from mvmnix.network.host.setup import NetworkProcess, code_directories, resolver_settings
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.profiles.network import DIALER_SERVING, GATEWAY_SERVING
from mvmnix.sandbox.profiles.profile import Profile
from mvmnix.vmm.confinement import Jail, NetworkService
from mvmnix.vmm.port import Invocation
from mvmnix.vmm.process import HypervisorProcess


class PlayedSandbox:
    """A sandbox and the process in it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def network(self, _service: NetworkService) -> "PlayedSandbox":
        return self

    def release(self) -> None:
        self.calls.append("release")

    def close(self) -> None:
        self.calls.append("close")


@pytest.mark.parametrize(("module", "profile"), [("gateway", GATEWAY_SERVING), ("dialer", DIALER_SERVING)])
def test_a_process_serves_under_its_own_filter(module: str, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[tuple[Invocation, bytes]]()
    sandbox = PlayedSandbox()

    def spawn(invocation: Invocation, given: tuple[int, ...], _sandbox: object) -> PlayedSandbox:
        assert given[1:] == (7, 8)
        started.append((invocation, Path(f"/proc/self/fd/{given[0]}").read_bytes()))
        return sandbox

    monkeypatch.setattr(HypervisorProcess, "spawn", spawn)
    service = NetworkService("/python", {}, {}, 1, 1, dials=module == "dialer")
    process = NetworkProcess(cast("Jail", sandbox), module, service)
    process.start((7, 8))
    ((invocation, filter_),) = started
    assert filter_ == seccomp.program(profile)
    assert invocation.argv[:4] == ("/python", "-I", "-S", "-c")
    assert f"from mvmnix.network.{module}.process import main" in invocation.argv[4]
    assert invocation.argv[6:] == ("7", "8")
    process.close()
    assert sandbox.calls == ["close"]


def test_a_sandbox_without_a_process_is_released() -> None:
    sandbox = PlayedSandbox()
    NetworkProcess(cast("Jail", sandbox), "gateway", NetworkService("", {}, {}, 1, 1, dials=False)).close()
    assert sandbox.calls == ["release"]


def test_code_is_a_directory_of_each_library() -> None:
    found = code_directories("h11")
    assert found.keys() == {"/code/mvmnix", "/code/h11"}
    for name, fd in found.items():
        assert os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == name.removeprefix("/code/")  # noqa: PTH119, PTH115
        assert not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize("name", ["no_such_library", "this"])
def test_a_library_that_is_no_directory_is_missing(name: str) -> None:
    with pytest.raises(MvmnixError, match=f"the Python package {name} is missing"):
        code_directories(name)


def test_names_are_looked_up_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"192.0.2.1 a.example\n")
    monkeypatch.setattr(setup, "_SETTINGS", (str(hosts), str(tmp_path / "none")))
    assert resolver_settings() == {str(hosts): b"192.0.2.1 a.example\n", "/etc/resolv.conf": b"\nsearch .\n"}
