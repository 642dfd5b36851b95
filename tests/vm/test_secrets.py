"""Secrets by reference in a real guest: who can read them there, and that a run leaves them nowhere on the host."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import World
from tests.leaks import in_bytes, in_files
from tests.patience import PATIENCE, until
from tests.vm.machines import machines, processes_of

pytestmark = pytest.mark.vm

#: What a process elsewhere may keep temporary files in.
SHARED = tuple(map(Path, ("/var/tmp", "/dev/shm", "/run")))


@dataclass
class Confided:
    """Secrets in every place that a reference can name, and the world whose guest gets them."""

    world: World
    path: Path
    values: dict[str, bytes]
    since: float
    before: frozenset[Path]

    @property
    def options(self) -> tuple[str, ...]:
        printing = f"command:/usr/bin/base32 -d {self.path}/encoded"
        return (
            *("--secret", "A_FILE=env:CONFIDED_A", "--secret", f"from-file=file:{self.path}/secret"),
            *("--secret", f"printed.pem={printing}", "--secret-env", "A_VARIABLE=env:CONFIDED_V"),
        )

    @property
    def environment(self) -> dict[str, str]:
        (self.path / "tmp").mkdir(exist_ok=True)
        return {
            "CONFIDED_A": self.values["A_FILE"].decode(),
            "CONFIDED_V": self.values["A_VARIABLE"].decode(),
            "TMPDIR": str(self.path / "tmp"),
        }

    def leaks(self) -> list[str]:
        """Where any of them is, in whatever was written since; the file that holds one on purpose is left out.

        The home with all of mvm's state is below `path`.
        """
        roots = [self.path, Path(self.world.home.environment["XDG_CACHE_HOME"]), *SHARED]
        new = [path for path in Path("/tmp").iterdir() if path not in self.before and path not in self.path.parents]
        found = in_files(self.values, [*roots, *new], since=self.since, but=[self.path / "secret"])
        return [f"{leak.where}: {leak.form}" for leak in found]


@pytest.fixture
def confided(copied: World, tmp_path: Path) -> Iterator[Confided]:
    """Four secrets; the one that a command prints lies in base32, which nobody looks for."""
    import base64

    names = ("A_FILE", "from-file", "printed.pem", "A_VARIABLE")
    values = {name: f"{name}-{secrets.token_urlsafe(24)}".encode() for name in names}
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_bytes(values["from-file"])
    (tmp_path / "encoded").write_bytes(base64.b32encode(values["printed.pem"]))
    yield Confided(copied, tmp_path, values, time.time(), frozenset(Path("/tmp").iterdir()))


#: What the guest does with them: it says their digests, so that nothing of them is in its output.
LOOK = """
cd /run/secrets && ls -l . && stat -c '%n %a %u:%g' . *
for name in *; do sha256sum "$name"; done
printf %s "$A_VARIABLE" | sha256sum
(echo x > A_FILE; echo x > new; chmod 644 A_FILE; rm -f A_FILE; mkdir d) 2>&1 | grep -c -e denied -e Read-only
mount | grep ' /run/secrets '
cat /proc/cmdline
"""


def test_the_guest_has_them_in_memory_and_the_host_nowhere(confided: Confided) -> None:
    command = ("--", "/bin/busybox", "sh", "-c", LOOK)
    done = confided.world.home.mvm(
        "run", *confided.options, "./examples/hello", *command, cwd=confided.world.tree, env=confided.environment
    )
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    for name, value in confided.values.items():
        assert hashlib.sha256(value).hexdigest() in said, name
    for name in ("A_FILE", "from-file", "printed.pem"):
        assert f"{name} 400 1000:1000\n" in said
    assert ". 500 1000:1000\n" in said
    assert "secrets on /run/secrets type tmpfs (ro,nosuid,nodev,noexec," in said
    assert "\n5\n" in said, "nothing there can be changed"
    assert not list(in_bytes(confided.values, done.stdout + done.stderr))
    assert confided.leaks() == []
    tail = confided.world.home.mvm("audit", "tail", "-n", "3").stdout
    start = next(record for record in map(json.loads, tail.splitlines()) if record["kind"] == "start")
    assert len(start["digests"]["secrets"]) == 64


def command_lines() -> bytes:
    """Of every process that there is."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += path.read_bytes()
    return found


def test_leaks_on_purpose_are_found_by_the_same_search(confided: Confided) -> None:
    """The guest prints one, compressed, into the log of a detached machine; the host writes another, encoded."""
    home, tree = confided.world.home, confided.world.tree
    script = "gzip -c /run/secrets/from-file; sleep 1000"
    command = ("./examples/hello", "--", "/bin/busybox", "sh", "-c", script)
    bundle = home.signed_plan(confided.path, *confided.options, *command, cwd=tree, env=confided.environment)
    shown = home.mvm("plan", "show", bundle)
    assert b"guest-visible secret A_VARIABLE: from env:CONFIDED_V, as the variable A_VARIABLE" in shown.stderr
    launched = home.mvm("launch", "--detach", bundle, env=confided.environment)
    assert launched.returncode == 0, launched.stderr.decode()
    machine = launched.stdout.decode().strip()
    supervisor, hypervisor = processes_of(confided.world, machine)
    for pid in (supervisor, hypervisor):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]
    lines = command_lines()
    assert b"qemu-system" in lines
    assert not list(in_bytes(confided.values, lines, depth=0))
    log = home.state / "machines" / machine / "output.log"
    until(lambda: log.exists() and log.stat().st_size, seconds=PATIENCE)
    assert home.mvm("stop", machine).returncode == 0
    found = confided.leaks()
    assert len(found) == 1
    assert found[0].startswith("from-file in ")
    assert found[0].endswith("output.log: gzip: plain")
    (confided.path / "notes").write_text(json.dumps({"note": confided.values["A_VARIABLE"].hex()}))
    assert len(confided.leaks()) == 2


def test_a_snapshot_has_them_sealed_and_a_rotated_one_is_refused(confided: Confided, minimal: str) -> None:
    """What goes on has them all; a snapshot's file, its statement and all that was written beside them have none."""
    home, environment = confided.world.home, confided.environment
    granted = ("--verb", "exec", "--verb", "snapshot", "--snapshot-with-secrets")
    command = ("--", "/bin/busybox", "sleep", "1000")
    bundle = home.signed_plan(confided.path, *confided.options, *granted, minimal, *command, env=environment)
    launched = home.mvm("launch", "--detach", bundle, env=environment)
    assert launched.returncode == 0, launched.stderr.decode()
    machine = launched.stdout.decode().strip()
    cooled = home.mvm("cool", machine)
    assert cooled.returncode == 0, cooled.stderr.decode()
    rotated = home.mvm("thaw", machine, env=environment | {"CONFIDED_A": "another one"})
    assert rotated.returncode == 126
    assert b"refused [snapshot-secrets]" in rotated.stderr
    assert b"refused [secret-unavailable]" in home.mvm("thaw", machine).stderr
    thawed = home.mvm("thaw", machine, env=environment)
    assert thawed.returncode == 0, thawed.stderr.decode()
    other = thawed.stdout.decode().strip()
    said = home.mvm("exec", other, "/bin/busybox", "sh", "-c", "cd /run/secrets && sha256sum *").stdout.decode()
    for name in ("A_FILE", "from-file", "printed.pem"):
        assert f"{hashlib.sha256(confided.values[name]).hexdigest()}  {name}\n" in said
    assert home.mvm("kill", other).returncode == 0
    assert confided.leaks() == []


def test_a_secret_that_is_not_there_starts_nothing(confided: Confided) -> None:
    before = machines(confided.world)
    done = confided.world.home.mvm(
        "run", "--secret", "X=env:CONFIDED_NOT_SET", "./examples/hello", cwd=confided.world.tree
    )
    assert done.returncode == 126
    assert b"refused [secret-unavailable]" in done.stderr
    assert machines(confided.world) == before


def test_a_workload_that_is_told_nothing_finds_nothing(confided: Confided) -> None:
    done = confided.world.home.mvm(
        "run", "./examples/hello", "--", "/bin/busybox", "sh", "-c", "ls /run; env", cwd=confided.world.tree
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"secrets" not in done.stdout
    assert b"A_VARIABLE" not in done.stdout
