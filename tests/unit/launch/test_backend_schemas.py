"""What docs/reference/backends.md would have Firecracker and Cloud Hypervisor told fits the API that each publishes."""

import json
import re
import shlex
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema
import pytest

from tests.repository import ROOT

#: By hypervisor: the heading of its section, and what the JSON in it is, in its published schema.
BACKENDS = {
    "firecracker": ("Firecracker", "FullVmConfiguration"),
    "cloud-hypervisor": ("Cloud Hypervisor", "VmConfig"),
}
#: unix(7): sun_path has 108 bytes, with the zero that ends it.
LONGEST_PATH = 107


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def section(name: str) -> str:
    heading, _ = BACKENDS[name]
    page = (ROOT / "docs/reference/backends.md").read_text()
    return page.split(f"\n### {heading} (Planned)\n")[1].split("\n### ")[0]


def words(name: str) -> list[str]:
    (line,) = blocks(section(name), "sh")
    return shlex.split(line)


def configuration(name: str) -> dict[str, Any]:
    (text,) = blocks(section(name), "json")
    value: dict[str, Any] = json.loads(text)
    return value


@cache
def schema(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((ROOT / f"tests/fixtures/backends/{name}.schema.json").read_text())
    return value


def errors(name: str, kind: str, value: object) -> list[str]:
    validator = jsonschema.Draft202012Validator({"$defs": schema(name)["$defs"], "$ref": f"#/$defs/{kind}"})
    return [error.message for error in validator.iter_errors(value)]


def members(value: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where each member of an object is, however deep, outermost first."""
    match value:
        case dict():
            for key, inner in value.items():
                yield (*path, key)
                yield from members(inner, *path, key)
        case list():
            for number, inner in enumerate(value):
                yield from members(inner, *path, number)
        case _:
            pass


MEMBERS = [(name, path) for name in BACKENDS for path in members(configuration(name))]


def changed(name: str, path: tuple[str | int, ...]) -> tuple[dict[str, Any], Any, str]:
    """A copy, the object in it that has the member, and the member's name."""
    *way, last = path
    whole: dict[str, Any] = deepcopy(configuration(name))
    inner: Any = whole
    for step in way:
        inner = inner[step]
    return whole, inner, str(last)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_configuration_is_one_by_the_published_schema(name: str) -> None:
    assert errors(name, BACKENDS[name][1], configuration(name)) == []


@pytest.mark.parametrize(("name", "path"), MEMBERS)
def test_a_member_with_another_name_is_none(name: str, path: tuple[str | int, ...]) -> None:
    whole, inner, last = changed(name, path)
    inner[f"{last}_"] = inner.pop(last)
    assert errors(name, BACKENDS[name][1], whole)


@pytest.mark.parametrize(("name", "path"), MEMBERS)
def test_a_member_of_another_type_is_none(name: str, path: tuple[str | int, ...]) -> None:
    whole, inner, last = changed(name, path)
    inner[last] = None
    assert errors(name, BACKENDS[name][1], whole)


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


@pytest.mark.parametrize("name", BACKENDS)
def test_the_page_names_the_schema_that_it_is_held_against(name: str) -> None:
    source = schema(name)["$comment"]
    (file,) = re.findall(r"[\w/-]+\.yaml", source)
    (commit,) = re.findall(r"[0-9a-f]{40}", source)
    assert f"`{file}`" in section(name)
    assert commit in section(name)


def test_what_cloud_hypervisor_is_asked_is_in_its_api() -> None:
    create, boot = re.findall(r"`PUT /api/v1([^`]+)`", section("cloud-hypervisor"))
    paths = schema("cloud-hypervisor")["paths"]
    assert (paths[create], paths[boot]) == ({"$ref": "#/$defs/VmConfig"}, None)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_member_is_explained(name: str) -> None:
    rows = "".join(re.findall(r"(?m)^\| (`[^|]*) \|", section(name)))
    explained = set(re.findall(r"`([^`]+)`", rows))
    assert explained == {*configuration(name), *(it for it in words(name) if it.startswith("--"))}


def test_both_are_what_the_example_plan_says() -> None:
    example, *_ = blocks((ROOT / "docs/reference/plan.md").read_text(), "json")
    plan = json.loads(example)
    vcpus, memory = plan["resources"]["vcpus"], plan["resources"]["memoryMiB"]
    one, other = configuration("firecracker"), configuration("cloud-hypervisor")
    machine = one["machine-config"]
    assert (machine["vcpu_count"], machine["mem_size_mib"]) == (vcpus, memory)
    assert (other["cpus"]["boot_vcpus"], other["cpus"]["max_vcpus"]) == (vcpus, vcpus)
    assert other["memory"]["size"] == memory << 20
    command_line = plan["image"]["kernelCommandLine"]
    assert (one["boot-source"]["boot_args"], other["payload"]["cmdline"]) == (command_line, command_line)
    assert one["vsock"]["uds_path"] == other["vsock"]["socket"]
    assert len(f"{one['vsock']['uds_path']}_1024".encode()) <= LONGEST_PATH


def test_nothing_writes_to_the_image_and_nothing_is_said_of_a_network() -> None:
    one, other = configuration("firecracker"), configuration("cloud-hypervisor")
    assert [(it["is_read_only"], it["is_root_device"]) for it in one["drives"]] == [(True, False)]
    assert [(it["readonly"], it["image_type"]) for it in other["disks"]] == [(True, "Raw")]
    assert not {"network-interfaces", "mmds-config"} & one.keys()
    assert not {"net", "fs", "devices"} & other.keys()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_command_line_has_constants_and_descriptors_alone(name: str) -> None:
    """None of them is the descriptor of anything in the machine."""
    program, *others = words(name)
    assert program == f"/usr/bin/{name}"
    assert all(re.fullmatch(r"--[a-z-]+|fd=\d+|/proc/self/fd/\d+|true", it) for it in others)
    own = {int(it) for word in others for it in re.findall(r"\d+$", word)}
    inside = {int(it) for it in re.findall(r"/proc/self/fd/(\d+)", json.dumps(configuration(name)))}
    assert (own <= {8, 9}, inside) == (True, {10, 11, 12})
