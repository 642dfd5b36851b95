"""What is composed for Firecracker and Cloud Hypervisor fits the API that each publishes."""

import json
import shlex
import socket
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.launch.backends.cloud_hypervisor import CloudHypervisor
from mvmnix.launch.backends.firecracker import MOST_VCPUS, Firecracker
from mvmnix.launch.backends.http_api import ApiRequest
from mvmnix.launch.backends.vsock_machine import LONGEST_PATH, VsockSpec

FIRECRACKER = Firecracker("/usr/bin/firecracker")
CLOUD_HYPERVISOR = CloudHypervisor("/usr/bin/cloud-hypervisor")
SPEC = VsockSpec(
    kernel=10,
    initrd=11,
    rootfs=12,
    socket="/var/lib/mvm/machines/0123456789ab/vsock",
    vcpus=2,
    memory_mib=256,
    command_line="console=ttyS0 quiet reboot=t panic=-1",
)
#: What a signed plan, a user's directory and a host can say; the text is as hostile as it can be.
SPECS = st.builds(
    VsockSpec,
    kernel=st.integers(3, 1023),
    initrd=st.integers(3, 1023),
    rootfs=st.none() | st.integers(3, 1023),
    socket=st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20).map("/run/".__add__),
    vcpus=st.integers(1, MOST_VCPUS),
    memory_mib=st.integers(96, 2**20),
    command_line=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200),
)


@cache
def schema(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((Path("tests/fixtures/backends") / f"{name}.schema.json").read_text())
    return value


@cache
def validator(name: str, kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$defs": schema(name)["$defs"], "$ref": f"#/$defs/{kind}"})


def errors(name: str, kind: str, value: object) -> list[str]:
    return [error.message for error in validator(name, kind).iter_errors(value)]


def body(name: str, request: ApiRequest, path: str) -> None:
    """Hold a request against what its path takes: the body on the wire, not the one in memory."""
    head, _, content = request.to_bytes().partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    assert line == f"PUT {request.path} HTTP/1.1"
    assert f"Content-Length: {len(content)}" in fields
    wanted = schema(name)["paths"][path]
    if wanted is None:
        assert content == b""
    else:
        assert errors(name, wanted["$ref"].rpartition("/")[2], json.loads(content)) == []


@given(SPECS)
def test_firecracker_takes_the_configuration_and_each_request(spec: VsockSpec) -> None:
    configuration = json.loads(FIRECRACKER.configuration(spec))
    assert errors("firecracker", "FullVmConfiguration", configuration) == []
    for request in FIRECRACKER.requests(spec):
        body("firecracker", request, request.path.replace("/drives/root", "/drives/{drive_id}"))
    assert configuration["boot-source"]["boot_args"] == spec.command_line
    assert configuration["vsock"]["uds_path"] == spec.socket


@given(SPECS)
def test_cloud_hypervisor_takes_each_request(spec: VsockSpec) -> None:
    create, boot = CLOUD_HYPERVISOR.requests(spec)
    for request in (create, boot):
        body("cloud-hypervisor", request, request.path.removeprefix("/api/v1"))
    assert create.body is not None
    payload = create.body["payload"]
    assert isinstance(payload, dict)
    assert payload["cmdline"] == spec.command_line


def test_the_whole_of_what_firecracker_is_told() -> None:
    assert FIRECRACKER.arguments(9) == ("/usr/bin/firecracker", "--no-api", "--config-file", "/proc/self/fd/9")
    assert json.loads(FIRECRACKER.configuration(SPEC)) == {
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 256, "smt": False, "track_dirty_pages": False},
        "boot-source": {
            "kernel_image_path": "/proc/self/fd/10",
            "initrd_path": "/proc/self/fd/11",
            "boot_args": "console=ttyS0 quiet reboot=t panic=-1",
        },
        "vsock": {"guest_cid": 3, "uds_path": "/var/lib/mvm/machines/0123456789ab/vsock"},
        "drives": [
            {
                "drive_id": "root",
                "path_on_host": "/proc/self/fd/12",
                "is_root_device": False,
                "is_read_only": True,
                "cache_type": "Unsafe",
                "io_engine": "Sync",
            }
        ],
    }


def test_the_whole_of_what_cloud_hypervisor_is_told() -> None:
    line = "/usr/bin/cloud-hypervisor --api-socket fd=8 --event-monitor fd=9 --seccomp true"
    assert CLOUD_HYPERVISOR.arguments(8, 9) == tuple(shlex.split(line))
    create, boot = CLOUD_HYPERVISOR.requests(SPEC)
    assert (create.path, boot) == ("/api/v1/vm.create", ApiRequest("/api/v1/vm.boot"))
    assert create.body == {
        "cpus": {"boot_vcpus": 2, "max_vcpus": 2},
        "memory": {"size": 256 * 1024 * 1024, "shared": False, "mergeable": False},
        "payload": {
            "kernel": "/proc/self/fd/10",
            "initramfs": "/proc/self/fd/11",
            "cmdline": "console=ttyS0 quiet reboot=t panic=-1",
        },
        "disks": [{"path": "/proc/self/fd/12", "readonly": True, "serial": "root", "id": "root", "image_type": "Raw"}],
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "vsock": {"cid": 3, "socket": "/var/lib/mvm/machines/0123456789ab/vsock"},
        "rng": {"src": "/dev/urandom"},
        "watchdog": False,
        "pvpanic": False,
    }


def test_no_disk_and_no_network_that_nobody_asked_for() -> None:
    probe = replace(SPEC, rootfs=None)
    assert json.loads(FIRECRACKER.configuration(probe))["drives"] == []
    (create, _) = CLOUD_HYPERVISOR.requests(probe)
    assert create.body is not None
    assert create.body["disks"] == []
    assert "net" not in create.body
    assert b"network-interfaces" not in FIRECRACKER.configuration(SPEC)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("firecracker", "Drive", {"drive_id": "root", "is_root_device": True, "readonly": True}),
        ("firecracker", "MachineConfiguration", {"vcpu_count": 33, "mem_size_mib": 1}),
        ("firecracker", "BootSource", {"boot_args": "quiet"}),
        ("cloud-hypervisor", "VmConfig", {"payload": {}, "kernel": {"path": "/vmlinux"}}),
        ("cloud-hypervisor", "VsockConfig", {"cid": 2, "socket": "/x"}),
        ("cloud-hypervisor", "ConsoleConfig", {"mode": "off"}),
    ],
)
def test_the_schemas_can_refuse(name: str, kind: str, value: object) -> None:
    """Members of the other hypervisor or of older versions, and what is out of bounds."""
    assert errors(name, kind, value)


def test_what_firecracker_would_refuse_is_not_composed() -> None:
    with pytest.raises(ValueError, match="32 processors at most"):
        FIRECRACKER.configuration(replace(SPEC, vcpus=33))


@pytest.mark.parametrize(
    "changes",
    [
        {"vcpus": 0},
        {"memory_mib": 0},
        {"command_line": "quiet\n"},
        {"command_line": "quiét"},
        {"socket": "vsock"},
        {"socket": "/" + "x" * (LONGEST_PATH - len("_1024"))},
        {"socket": "/" + "é" * 52},
    ],
)
def test_what_no_machine_can_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"positive|ASCII|socket"):
        replace(SPEC, **changes)


def test_the_longest_path_of_a_socket_is_one_that_the_kernel_takes(tmp_path: Path) -> None:
    stem = f"{tmp_path}/"
    spec = replace(SPEC, socket=stem + "x" * (LONGEST_PATH - len("_1024") - len(stem.encode())))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(spec.agent_socket)
    assert len(spec.agent_socket.encode()) == LONGEST_PATH
