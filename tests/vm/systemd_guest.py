"""A Debian with its own systemd as a guest of QEMU, in which tests find users, their managers and this tree's mvm."""

import hashlib
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tests.patience import PATIENCE
from tests.repository import ROOT

#: What mvm needs there, a systemd with its bus, and the kernel.
_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "login", "passwd"),
    *("bubblewrap", "uidmap", "util-linux", "python3", "libseccomp2", "linux-image-cloud-amd64", "initramfs-tools"),
)
#: Starts what the second disk has, and ends the guest.
_UNIT: Final = """\
[Unit]
After=systemd-logind.service dbus.service systemd-user-sessions.service
[Service]
Type=oneshot
WorkingDirectory=/mvm
Environment=PYTHONPATH=/mvm:/mvm/libraries PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m tests.vm.inside_systemd
StandardOutput=file:/dev/ttyS1
ExecStopPost=/usr/bin/systemctl --no-block poweroff
"""
#: In the new root, `$1`: `ada` has a manager without a session, `eve` no subordinate ids and no manager.
_HOOKS: Final = (
    *(f'chroot "$1" useradd --create-home --shell /bin/sh {user}' for user in ("ada", "eve")),
    'sed -i /eve/d "$1/etc/subuid" "$1/etc/subgid"',
    'mkdir -p "$1/var/lib/systemd/linger" "$1/mvm" && touch "$1/var/lib/systemd/linger/ada"',
    'echo /dev/vdb /mvm erofs ro 0 0 >> "$1/etc/fstab"',
    f"""printf %b {shlex.quote(_UNIT.replace(chr(10), "\\n"))} > "$1/etc/systemd/system/mvm-test.service\"""",
    'cp "$1"/boot/vmlinuz-* "$1/vmlinuz-test" && cp "$1"/boot/initrd.img-* "$1/initrd-test"',
)
#: Of no use here, and slow without KVM.
_LEFT_OUT: Final = ("man", "doc", "locale", "info")
_MASKED: Final = ("getty@tty1", "serial-getty@ttyS0", "ldconfig", "systemd-journal-catalog-update", "apparmor")


def _targets() -> list[tuple[str, str]]:
    """By apt's lists, the code name of each of Debian's suites and the file of apt's sources that names it."""
    columns = "$(CODENAME)\t$(SOURCESENTRY)"
    argv = ["apt-get", "indextargets", "--format", columns, "Created-By: Packages", "Origin: Debian"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed, "apt's lists are empty: apt-get update"
    return [(suite, entry.rpartition(":")[0]) for suite, entry in (line.split("\t") for line in listed)]


def _apt_options() -> Iterator[str]:
    """This machine's settings of how apt reaches its mirrors."""
    dumped = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    for line in dumped.splitlines():
        if line.startswith(("Acquire::http", "Acquire::Check-", "Acquire::Retries")):
            yield f"--aptopt={line.removesuffix(';')}"


def _base(where: Path) -> Path:
    """The archive of a root file system, made once for each recipe, beside what `setup` unpacks if that can be."""
    recipe = hashlib.sha256(repr((_PACKAGES, _HOOKS, _LEFT_OUT)).encode()).hexdigest()[:16]
    beside = Path(sys.prefix, "debian")
    kept = (beside if os.access(beside, os.W_OK) else where) / f"systemd-{recipe}.tar"
    if kept.exists():
        return kept
    targets = _targets()
    making = kept.with_suffix(f".{os.getpid()}")
    argv = [
        *("mmdebstrap", "--quiet", "--format=tar", "--variant=apt", f"--include={','.join(_PACKAGES)}"),
        *_apt_options(),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
        *(f"--customize-hook={hook}" for hook in _HOOKS),
        *(min((suite for suite, _ in targets), key=len), str(making), *sorted({file for _, file in targets})),
    ]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, cwd="/", timeout=PATIENCE)
    return making.rename(kept)


def _needed() -> Iterator[metadata.Distribution]:
    """What mvm is made of but itself, by what packages require."""
    found, names = dict[str, metadata.Distribution](), ["mvmnix"]
    for name in names:
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            asked = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if asked and requirement.name not in found:
                found[requirement.name] = metadata.distribution(requirement.name)
                names.append(requirement.name)
    yield from found.values()


def _disk(where: Path, program: str) -> Path:
    """The second disk: this tree, what it needs, and the stand-in for a hypervisor, all of them root's."""

    def roots(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mode &= 0o755
        return None if entry.name.endswith(("__pycache__", ".pyc")) else entry

    with tarfile.open(where / "mvm.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in (".", "libraries"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        for name in ("mvmnix", "tests"):
            archive.add(ROOT / name, name, filter=roots)
        for distribution in _needed():
            for file in distribution.files or ():
                if ".." not in file.parts:
                    archive.add(str(distribution.locate_file(file)), f"libraries/{file}", filter=roots)
        archive.add(program, "taken_over", filter=roots)
    subprocess.run(["mkfs.erofs", "--quiet", "--tar=f", where / "mvm.img", where / "mvm.tar"], check=True)
    return where / "mvm.img"


def boot(where: Path, program: str) -> str:
    """What tests/vm/inside_systemd.py printed in a guest; files of it are put there."""
    base = _base(where)
    with tarfile.open(base) as archive:
        for name in ("vmlinuz-test", "initrd-test"):
            archive.extract(f"./{name}", where, filter="data")
    words = [
        "root=/dev/vda",
        "rw",
        "console=ttyS0",
        "systemd.show_status=no",
        "systemd.wants=mvm-test.service",
        "mitigations=off",
    ]
    words += [f"systemd.mask={name}.service" for name in _MASKED]
    root = where / "root.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", base, root, "1200M"], check=True)
    argv = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"),
        *("-kernel", str(where / "vmlinuz-test"), "-initrd", str(where / "initrd-test"), "-append", " ".join(words)),
        *("-drive", f"file={root},if=virtio,format=raw"),
        *("-drive", f"file={_disk(where, program)},if=virtio,format=raw,readonly=on"),
        *("-serial", f"file:{where / 'console'}", "-serial", f"file:{where / 'said'}"),
    ]
    try:
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise AssertionError((where / "console").read_text(errors="replace")[-8000:]) from error
    return (where / "said").read_text()
