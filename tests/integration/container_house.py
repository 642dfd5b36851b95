"""A signed image whose one program says what it sees and tries, and a host that runs it in a container."""

import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvmnix.formats import strict, verity
from mvmnix.launch.agent.endpoints import Stdin
from mvmnix.launch.container.crun import Crun
from mvmnix.launch.container.run import run_container
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.supervisor import SupervisedEnd
from mvmnix.model import Verity
from mvmnix.plan.backend import Backend
from mvmnix.provenance.isolation import Isolation
from tests.patience import EVENT_PATIENCE
from tests.policies import effective
from tests.unit.launch.house import House
from tests.unit.provenance.world import SALT, World, manifest_value, trust

PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* What a runtime that was taken over could try, with arguments that no kernel takes. */
static const struct { const char *name; long number; } TRIED[] = {
    {"init_module", 175}, {"delete_module", 176}, {"finit_module", 313}, {"kexec_load", 246}, {"kexec_file_load", 320},
    {"bpf", 321}, {"perf_event_open", 298}, {"userfaultfd", 323}, {"io_uring_setup", 425}, {"ptrace", 101},
    {"process_vm_readv", 310}, {"process_vm_writev", 311}, {"kcmp", 312}, {"pidfd_getfd", 438}, {"setns", 308},
    {"open_by_handle_at", 304}, {"name_to_handle_at", 303}, {"add_key", 248}, {"request_key", 249}, {"keyctl", 250},
    {"swapon", 167}, {"swapoff", 168}, {"acct", 163}, {"reboot", 169}, {"syslog", 103}, {"iopl", 172},
    {"quotactl", 179}, {"settimeofday", 164}, {"clock_settime", 227}, {"fanotify_init", 300}, {"chroot", 161},
    {"move_pages", 279},
    {"statmount", 457}, {"listmount", 458}, {"lsm_set_self_attr", 460}, {"setxattrat", 463}, {"open_tree_attr", 467},
};

static void taken_over(void)
{
    for (size_t i = 0; i < sizeof TRIED / sizeof *TRIED; i++) {
        errno = 0;
        syscall(TRIED[i].number, -1L, -1L, -1L, -1L, -1L, -1L);
        printf("%s: %s\n", TRIED[i].name, errno == EPERM || errno == ENOSYS ? "held" : "BROKEN");
    }
}

static int said(int result) { return printf("%s\n", result < 0 ? strerror(errno) : "done"), fflush(stdout), 0; }

int main(int argc, char **argv)
{
    const char *verb = argv[1], *what = argc > 2 ? argv[2] : "";
    char data[65536];
    if (!strcmp(verb, "taken over") || !strncmp(verb, "--log=", 6)) return taken_over(), 0;
    if (!strcmp(verb, "exit")) return atoi(what);
    if (!strcmp(verb, "id")) return printf("%d %d %d\n", (int)getuid(), (int)getgid(), (int)getpid()), 0;
    if (!strcmp(verb, "write")) return said(open(what, O_WRONLY | O_CREAT, 0600));
    if (!strcmp(verb, "unshare")) return said(unshare(CLONE_NEWUSER));
    if (!strcmp(verb, "mount")) return said(mount("proc", "/tmp", "proc", 0, NULL));
    if (!strcmp(verb, "chroot")) return said(chroot("/tmp"));
    if (!strcmp(verb, "fork")) {
        int count = 0;
        for (pid_t child; count < 1000 && (child = fork()) >= 0; count++) if (child == 0) return sleep(1000), 0;
        return printf("%d\n", count), 0;
    }
    if (!strcmp(verb, "sleep")) return sleep(1000), 0;
    if (!strcmp(verb, "kill")) return abort(), 0;
    if (!strcmp(verb, "flood")) {
        memset(data, 'x', sizeof data);
        for (int i = 0; i < atoi(what); i++) if (write(1, data, sizeof data) < 0) return 1;
        return 0;
    }
    int fd = !strcmp(verb, "echo") ? 0 : open(what, O_RDONLY);
    if (fd < 0) return said(fd);
    for (ssize_t n; (n = read(fd, data, sizeof data)) > 0;) if (write(1, data, n) < 0) return 1;
    return 0;
}
"""
BLOCK = 4096


def allowing() -> bytes:
    """The policy that mvm makes, but for one word."""
    return trust().replace(b'isolation = "microvm"', f'isolation = "{Isolation.CONTAINER}"'.encode())


def image(directory: Path) -> bytes:
    """An erofs file system with the program, and the directories that things are mounted on."""
    tree = directory / "tree"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    source = directory / "probe.c"
    source.write_text(PROBE)
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", tree / "bin/probe", source], check=True)
    path = directory / "image"
    subprocess.run(["mkfs.erofs", f"-b{BLOCK}", "--quiet", path, tree], check=True)
    data = path.read_bytes()
    return data + bytes(-len(data) % BLOCK)


def world_of(directory: Path, data: bytes) -> World:
    """All that is said about an image with this file system."""
    path = directory / "data"
    path.write_bytes(data)
    blocks = len(data) // BLOCK
    with path.open("rb") as file:
        tree = verity.hash_tree(file.fileno(), data_blocks=blocks, salt=SALT)
    described = Verity(tree.root, SALT, "12345678-1234-4234-8234-123456789abc", blocks, blocks * BLOCK)
    rootfs = data + verity.superblock(described) + tree.blocks
    kernel, initrd = b"kernel" * 1000, b"initrd" * 1000
    value = manifest_value(kernel=kernel, initrd=initrd, rootfs=rootfs, tree=described) | {"writable": ["/tmp"]}
    world = World(kernel, initrd, rootfs, strict.canonical(value), policy=effective(None, allowing()))
    world.sign_provenance()
    return world


class Containers:
    """What runs plans here, and what it wrote down."""

    def __init__(self, path: Path, world: World) -> None:
        path.mkdir(mode=0o700)
        self.house = House(path, world)

    def host(self) -> Host:
        return replace(self.house.host(), hypervisor=Crun.find())

    def plan(self, *argv: str, seconds: int = EVENT_PATIENCE, **changes: Any) -> VerifiedPlan:
        given = {"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER} | changes
        return self.house.plan("/bin/probe", *argv, wall_seconds=seconds, **given)

    def run(self, *argv: str, stdin: Stdin = None, **changes: Any) -> tuple[SupervisedEnd, str]:
        """Run the program; how it ended, and what it said on both of its outputs."""
        said = bytearray()
        with self.plan(*argv, **changes) as plan:
            finished = run_container(
                plan, self.host(), stdout=said.extend, stderr=said.extend, stdin=stdin, started=ignored
            )
        return finished, said.decode()


def ignored(_what: object) -> None:
    """Take what no caller waits for."""


def left_over() -> list[str]:
    """Processes of containers that are still there: jails, their crun, and the program itself."""
    return [" ".join(argv) for argv in processes().values() if argv[0] == "/bin/probe" or _carries_a_bundle(argv)]


def jails() -> list[int]:
    """The processes of bubblewrap that hold a container."""
    return [pid for pid, argv in processes().items() if Path(argv[0]).name == "bwrap" and _carries_a_bundle(argv)]


def processes() -> dict[int, list[str]]:
    """The arguments of every process that has some, by its number."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if line := (process / "cmdline").read_bytes():
                    found[int(process.name)] = line.decode(errors="replace").split("\0")
    return found


def _carries_a_bundle(argv: list[str]) -> bool:
    return Path(argv[0]).name in {"bwrap", "crun"} and "/bundle" in argv
