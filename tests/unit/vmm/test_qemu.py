"""The exact command line that QEMU gets, and that nothing a plan chose can become an option of it."""

import dataclasses
import json
from typing import Any, Final

import pytest

from mvmnix.plan.kernel_command_line import Addition, BackendParameter
from mvmnix.plan.share import ShareKind
from mvmnix.vmm import qemu
from mvmnix.vmm.port import (
    Acceleration,
    Attachment,
    DataAttachment,
    Emulation,
    LaunchSpec,
    MemoryBackend,
    NetworkAttachment,
    PlaceholderDisk,
)
from mvmnix.vmm.qemu import Qemu

QEMU = Qemu(executable="/usr/bin/qemu-system-x86_64", bios="/usr/share/qemu/qboot.rom")
SPEC = LaunchSpec(
    kernel=10,
    initrd=11,
    rootfs=12,
    channel=13,
    console=14,
    monitor=15,
    vcpus=2,
    memory_mib=256,
    command_line="console=ttyS0 quiet reboot=t panic=-1",
    acceleration=Acceleration.TCG,
    tsc_khz=2596132,
)
BLOCKDEV = (
    '{"driver":"raw","node-name":"root","read-only":true,"auto-read-only":false,'
    '"file":{"driver":"file","filename":"/dev/fdset/1","read-only":true,"auto-read-only":false}}'
)


def test_arguments_under_tcg() -> None:
    invocation = QEMU.invocation(SPEC)
    assert invocation.argv == (
        "/usr/bin/qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-nographic",
        "-no-reboot",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        "microvm",
        "-bios",
        "/usr/share/qemu/qboot.rom",
        "-accel",
        "tcg,thread=multi,tb-size=64",
        "-cpu",
        "max,erms=off,fsrm=off",
        "-smp",
        "2",
        "-m",
        "256",
        "-kernel",
        "/proc/self/fd/10",
        "-initrd",
        "/proc/self/fd/11",
        "-append",
        "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2596132 tsc=reliable",
        "-chardev",
        "socket,id=monitor,fd=15",
        "-mon",
        "chardev=monitor,mode=control",
        "-chardev",
        "socket,id=console,fd=14",
        "-serial",
        "chardev:console",
        "-chardev",
        "socket,id=agent,fd=13",
        "-device",
        '{"driver":"virtio-serial-device","id":"serial","max_ports":2}',
        "-device",
        '{"driver":"virtserialport","bus":"serial.0","nr":1,"chardev":"agent","name":"mvm.agent"}',
        "-add-fd",
        "fd=12,set=1",
        "-blockdev",
        BLOCKDEV,
        "-device",
        '{"driver":"virtio-blk-device","drive":"root","serial":"root"}',
    )
    calibration = (Addition(BackendParameter.TSC_EARLY_KHZ, 2596132), Addition(BackendParameter.TSC, "reliable"))
    assert invocation.additions == calibration


def test_kvm_gets_no_calibration() -> None:
    invocation = QEMU.invocation(dataclasses.replace(SPEC, acceleration=Acceleration.KVM))
    assert invocation.additions == ()
    assert invocation.argv[invocation.argv.index("-append") + 1] == SPEC.command_line
    assert invocation.argv[invocation.argv.index("-accel") + 1] == "kvm"
    assert invocation.argv[invocation.argv.index("-cpu") + 1] == "max"


def test_a_probe_guest_has_no_disk() -> None:
    argv = QEMU.invocation(dataclasses.replace(SPEC, rootfs=None)).argv
    assert "-add-fd" not in argv
    assert "-blockdev" not in argv


@pytest.mark.parametrize(
    "smuggled",
    ["x,readonly=off", "-drive file=/etc/shadow", '{"driver":"file"}', "a b c", "fd=3,set=1", "x" * 2048],
)
def test_the_command_line_is_one_argument_and_enters_no_other(smuggled: str) -> None:
    plain = QEMU.invocation(SPEC).argv
    argv = QEMU.invocation(dataclasses.replace(SPEC, command_line=smuggled)).argv
    at = argv.index("-append") + 1
    assert argv[at] == f"{smuggled} tsc_early_khz=2596132 tsc=reliable"
    assert (*argv[:at], *argv[at + 1 :]) == (*plain[:at], *plain[at + 1 :])


def test_kvm_comes_as_a_descriptor() -> None:
    spec = dataclasses.replace(SPEC, acceleration=Acceleration.KVM, kvm=16)
    argv = QEMU.invocation(spec).argv
    assert argv[argv.index("-accel") - 2 : argv.index("-accel") + 2] == (
        "-add-fd",
        "fd=16,set=2",
        "-accel",
        "kvm,device=/dev/fdset/2",
    )
    assert 16 in spec.descriptors


def test_what_it_may_need_beside_the_guests_memory() -> None:
    assert QEMU.invocation(SPEC).overhead_mib == 256 + 64
    assert QEMU.invocation(dataclasses.replace(SPEC, memory_mib=8192)).overhead_mib == 256 + 512
    assert QEMU.invocation(dataclasses.replace(SPEC, acceleration=Acceleration.KVM)).overhead_mib == 256


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "ü", "\x1b[2J"])
def test_other_than_printable_ascii_never_gets_so_far(text: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        dataclasses.replace(SPEC, command_line=text)


def test_json_arguments_are_json() -> None:
    for argument in QEMU.invocation(SPEC).argv:
        if argument.startswith("{"):
            assert isinstance(json.loads(argument), dict)


def test_shares_that_are_served_have_memory_that_their_servers_map() -> None:
    shares = (Attachment("share0", 20, ShareKind.VIRTIOFS), Attachment("share1", 21, ShareKind.EROFS))
    spec = dataclasses.replace(SPEC, memory=MemoryBackend(16), shares=shares)
    argv = QEMU.invocation(spec).argv
    plain = QEMU.invocation(SPEC).argv
    assert [word for word in argv if word not in plain] == [
        "-object",
        '{"qom-type":"memory-backend-file","id":"memory","mem-path":"/proc/self/fd/16","size":268435456,"share":true}',
        "microvm,memory-backend=memory",
        "socket,id=share0,fd=20",
        '{"driver":"vhost-user-fs-device","chardev":"share0","tag":"share0"}',
        "fd=21,set=4",
        BLOCKDEV.replace("root", "share1").replace("fdset/1", "fdset/4"),
        '{"driver":"virtio-blk-device","drive":"share1","serial":"share1"}',
    ]
    assert set(spec.descriptors) - set(SPEC.descriptors) == {16, 20, 21}


def test_a_data_disk_is_encrypted_and_its_key_no_argument() -> None:
    spec = dataclasses.replace(SPEC, data=DataAttachment(20, 21, 22, 1 << 24))
    plain = QEMU.invocation(SPEC).argv
    assert QEMU.invocation(spec).argv == (
        *plain,
        "-add-fd",
        "fd=20,set=12",
        "-add-fd",
        "fd=21,set=13",
        "-object",
        '{"qom-type":"secret","id":"data-key","file":"/proc/self/fd/22"}',
        "-blockdev",
        (
            '{"driver":"luks","node-name":"data","key-secret":"data-key",'
            '"file":{"driver":"file","filename":"/dev/fdset/12"},"header":{"driver":"file","filename":"/dev/fdset/13"},'
            '"cache":{"no-flush":true}}'
        ),
        "-device",
        (
            '{"driver":"virtio-blk-device","drive":"data","serial":"data","discard":false,'
            '"werror":"report","rerror":"report"}'
        ),
    )
    assert set(spec.descriptors) - set(SPEC.descriptors) == {20, 21, 22}


def test_what_stands_for_a_data_disk_is_the_same_device_and_is_only_read() -> None:
    spec = dataclasses.replace(SPEC, data=PlaceholderDisk(20))
    encrypted = dataclasses.replace(SPEC, data=DataAttachment(20, 21, 22, 1 << 24))
    plain, argv = QEMU.invocation(SPEC).argv, QEMU.invocation(spec).argv
    device = QEMU.invocation(encrypted).argv[-2:]
    image = BLOCKDEV.replace("root", "data").replace("fdset/1", "fdset/12")
    assert argv == (*plain, "-add-fd", "fd=20,set=12", "-blockdev", image, *device)
    assert (set(spec.descriptors) - set(SPEC.descriptors), PlaceholderDisk(20).size) == ({20}, 0)


def test_a_network_device_has_a_tap_and_no_queue_for_control() -> None:
    spec = dataclasses.replace(SPEC, network=NetworkAttachment(20, "02:6d:76:6d:00:02"))
    assert QEMU.invocation(spec).argv == (
        *QEMU.invocation(SPEC).argv,
        "-netdev",
        '{"type":"tap","id":"net","fd":"20","vhost":false}',
        "-device",
        (
            '{"driver":"virtio-net-device","netdev":"net","mac":"02:6d:76:6d:00:02","ctrl_vq":false,"ctrl_rx":false,'
            '"ctrl_vlan":false,"ctrl_rx_extra":false,"ctrl_mac_addr":false,"ctrl_guest_offloads":false,'
            '"guest_announce":false,"guest_tso6":false,"host_tso6":false,"guest_ufo":false,"host_ufo":false,'
            '"guest_uso4":false,"guest_uso6":false,"host_uso":false,"status":false}'
        ),
    )
    assert set(spec.descriptors) - set(SPEC.descriptors) == {20}


@pytest.mark.parametrize(
    "mac",
    ["", "x", "02:6d:76:6d:00", "03:6d:76:6d:00:02", "02:6D:76:6d:00:02", "02:6d:76:6d:00:02,x", "02:6d:76:6d:00:02\n"],
)
def test_a_device_has_the_address_of_one_machine(mac: str) -> None:
    with pytest.raises(ValueError, match="not the hardware address"):
        NetworkAttachment(20, mac)


SERVED: Final = Attachment("share0", 20, ShareKind.VIRTIOFS)


@pytest.mark.parametrize(
    ("private", "restored", "saves", "mapped", "added"),
    [
        (False, None, 17, '"share":true', ("-add-fd", "fd=17,set=15")),
        (
            True,
            17,
            None,
            '"share":false,"readonly":true,"rom":"off"',
            ("-add-fd", "fd=17,set=14", "-incoming", "defer"),
        ),
        (
            False,
            17,
            18,
            '"share":true',
            ("-add-fd", "fd=17,set=14", "-incoming", "defer", "-add-fd", "fd=18,set=15"),
        ),
    ],
    ids=["saved", "restored", "both"],
)
def test_a_guest_that_is_saved_or_restored(
    private: bool, restored: int | None, saves: int | None, mapped: str, added: tuple[str, ...]
) -> None:
    """It reads its state from a descriptor, and writes it into another one."""
    memory = MemoryBackend(16, is_private=private)
    spec = dataclasses.replace(SPEC, memory=memory, restored=restored, saves=saves)
    plain, argv = QEMU.invocation(SPEC).argv, QEMU.invocation(spec).argv
    at = plain.index("-machine")
    backend = (
        f'{{"qom-type":"memory-backend-file","id":"memory","mem-path":"/proc/self/fd/16","size":{256 << 20},{mapped}}}'
    )
    machine = ("-object", backend, "-machine", "microvm,memory-backend=memory")
    assert argv == (*plain[:at], *machine, *plain[at + 2 :], *added)
    assert {16, restored, saves} - {None} <= set(spec.descriptors)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"restored": 17}, "has its memory in a memfd"),
        ({"saves": 17}, "in a memfd that others see"),
        ({"saves": 17, "memory": MemoryBackend(16, is_private=True)}, "in a memfd that others see"),
        ({"saves": 17, "memory": MemoryBackend(16), "shares": (SERVED,)}, "shares its memory with no server"),
        ({"restored": 17, "memory": MemoryBackend(16), "shares": (SERVED,)}, "shares its memory with no server"),
        ({"shares": (SERVED,)}, "needs memory that its server may use"),
        ({"memory": MemoryBackend(16, is_private=True), "shares": (SERVED,)}, "needs memory that its server may use"),
    ],
)
def test_memory_that_is_not_fit_for_it(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(SPEC, **changes)


def test_what_a_saved_guest_depends_on() -> None:
    kinds = QEMU.executable, qemu.__file__, "microvm"
    assert QEMU.emulation(Acceleration.TCG) == Emulation(*kinds, "max,erms=off,fsrm=off")
    assert QEMU.emulation(Acceleration.KVM) == Emulation(*kinds, "max")
