"""What QEMU, virtiofsd and mkfs.erofs call in their sandboxes, by strace: a new one is held against the lists here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.sandbox.profiles.profile import Profile
from tests.calls_traced import PROFILES, outside
from tests.repository import ROOT

pytestmark = pytest.mark.integration
as_root = pytest.mark.root("only root may trace what has another uid")

#: Starts QEMU in the shipped jail under TCG, and under KVM where its device can be opened, with a kernel that does
#: nothing and a network device; pauses it and has it go on. KVM gets the simplest processor, as hosts may emulate it
#: badly.
MACHINES = """
import dataclasses, os, sys
from pathlib import Path
from mvmnix.vmm.qemu import Qemu
from mvmnix.launch.runtime.vm_process import Preparation
from mvmnix.vmm.port import Acceleration, LaunchSpec, MonitorEvent, NetworkAttachment
from mvmnix.system.loop import Loop
from tests.hostile.stand_in import jail
from tests.tap_peer import GUEST_MAC, Peer

class Simple(Qemu):
    def invocation(self, spec):
        made = super().invocation(spec)
        processor = made.argv.index("-cpu") + 1
        return dataclasses.replace(made, argv=(*made.argv[:processor], "qemu64", *made.argv[processor + 1 :]))

# Documentation/arch/x86/boot.rst: setup_sects, a jump to itself, HdrS and version, loadflags, code32_start,
# initrd_addr_max, cmdline_size; and 5 sectors later another jump to itself
kernel, found = bytearray(1 << 16), Qemu.find()
for at, value in {0x1F1: b"\\4", 0x200: b"\\xeb\\xfe", 0x202: b"HdrS\\x0c\\2", 0x211: b"\\1", 0x214: b"\\0\\0\\x10",
                  0x22C: b"\\xff\\xff\\xff\\x7f", 0x239: b"\\x08", 0xA00: b"\\xeb\\xfe"}.items():
    kernel[at : at + len(value)] = value
file = os.memfd_create("kernel")
os.write(file, kernel)
for how in Acceleration.TCG, Acceleration.KVM:
    kvm = None if how is Acceleration.TCG else os.open("/dev/kvm", os.O_RDWR) if os.access("/dev/kvm", os.W_OK) else -1
    if kvm == -1:
        continue
    loop, peer = Loop(), Peer.start()
    spec = LaunchSpec(file, file, None, -1, -1, -1, 2, 128, "quiet", how, 2_000_000, kvm=kvm)
    spec = dataclasses.replace(spec, network=NetworkAttachment(peer.tap, GUEST_MAC))
    with jail(Path(sys.argv[1])) as where:
        qemu = Simple(found.executable, found.bios)
        guest = Preparation(qemu, where, spec).spawn(loop, console=lambda _: None, services={})
        for step, event in (lambda: None, "READY"), (guest.pause, "PAUSED"), (guest.resume, "READY"):
            before = len(guest.events)
            step()
            while len(guest.events) == before and not guest.process.ended:
                loop.turn()
            assert guest.events[-1:] == [MonitorEvent[event]], guest.process.last_words
        print(how, flush=True)
        guest.close()
        loop.close()
    os.close(peer.tap)
    peer.frames()
"""
#: What is asked of a tap interface; mvmnix/sandbox/profiles/hypervisor.py lets no more through.
OF_A_TAP = ("TUNGETIFF", "TUNSETOFFLOAD", "TUNSETSNDBUF", "TUNSETVNETHDRSZ")
SHARES = (
    "belongs_to_the_directorys_owner or renames or hard_links or many_files or owner_is_changed or becomes_an_image"
)


def traced(where: Path, *argv: str) -> tuple[str, list[str]]:
    """What Python says when it runs with these arguments, and all that it and its children called."""
    trace = where / "trace"
    command = ("strace", "-f", "-qq", "-o", str(trace), sys.executable, *argv)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout, trace.read_text(errors="replace").splitlines()


def beside(trace: list[str], program: str, profile: Profile) -> set[str]:
    assert outside(trace, program, Profile(frozenset(), frozenset())), f"{program} was never started"
    return set(outside(trace, program, profile))


@as_root
def test_a_hypervisor_calls_what_is_on_its_list(tmp_path: Path) -> None:
    """Beside it: clone3, in place of which glibc takes clone; the policy of NUMA; io_uring, for which it has poll.

    Options of sockets, too: it asks for one (SO_ZEROCOPY) and does without.
    """
    said, trace = traced(tmp_path, "-c", MACHINES, str(tmp_path))
    assert said.split() == (["tcg", "kvm"] if os.access("/dev/kvm", os.W_OK) else ["tcg"])
    assert any("KVM_RUN" in line for line in trace) == ("kvm" in said)
    assert beside(trace, "qemu-system", PROFILES["hypervisor"]) <= {
        *("clone3", "get_mempolicy", "io_uring_setup", "setsockopt")
    }
    asked = {(it[1], it[2]) for line in trace if (it := re.search(r"ioctl\(\d+, (TUN\w+).* = (-?\d+)", line))}
    assert asked == {(name, "0") for name in ("TUNSETIFF", *OF_A_TAP)}, "the first is how the test made it"


@as_root
def test_a_server_of_files_and_a_maker_of_images_call_what_is_on_theirs(tmp_path: Path) -> None:
    """Beside it: clone3, and openat2, in place of which virtiofsd takes openat."""
    _, trace = traced(tmp_path, "-m", "pytest", "-q", "-n0", "tests/hostile/test_shares.py", "-k", SHARES)
    for program in ("virtiofsd", "mkfs.erofs"):
        assert beside(trace, program, PROFILES["file-server"]) <= {"clone3", "openat2"}


def test_a_trace_is_read_for_the_program_alone() -> None:
    lines = """
        10 execve("/usr/bin/bwrap", ["bwrap"], 0x7ffe /* 3 vars */) = 0
        10 mount("x", "y", NULL, MS_REC, NULL) = 0
        10 execve("/usr/bin/qemu-system-x86_64", ["qemu"], 0x7ffe /* 3 vars */) = 0
        10 mount("x", "y", NULL, MS_REC, NULL) = -1 EPERM (Operation not permitted)
        10 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD) = 12
        12 read(3,  <unfinished ...>
        11 ptrace(PTRACE_TRACEME) = 0
        12 <... read resumed>"x", 1) = 1
        12 io_uring_setup(8, 0x7ffe) = -1 ENOSYS (Function not implemented)
    """
    trace = [line.strip() for line in lines.splitlines()]
    found = outside(trace, "qemu-system", PROFILES["hypervisor"])
    assert found == {"mount": {"-1 EPERM"}, "io_uring_setup": {"-1 ENOSYS"}}
