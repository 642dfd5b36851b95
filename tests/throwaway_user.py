"""A system user with subordinate ids that root makes for tests by mvm's own line, and removes with all that it has."""

import pwd
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvmnix.system import control_groups, system_user
from tests.patience import EVENT_PATIENCE, until


def run(*argv: str) -> bool:
    """Whether it succeeds; another one may have the password file locked."""
    return subprocess.run(argv, capture_output=True, timeout=EVENT_PATIENCE, check=False).returncode == 0


@contextmanager
def throwaway_user() -> Iterator[pwd.struct_passwd]:
    """Its entry in the password file."""
    name = f"mvmnix-t{secrets.token_hex(4)}"
    assert until(lambda: run(*shlex.split(system_user.command_for(name)))), "useradd"
    user = pwd.getpwnam(name)
    try:
        yield user
    finally:
        until(lambda: not run("pkill", "-KILL", "-u", name))
        for group in Path("/sys/fs/cgroup").rglob(f"mvmnix-{user.pw_uid}"):
            for inside in sorted(group.rglob("*/"), reverse=True):
                control_groups.remove(str(inside))
            control_groups.remove(str(group))
        subprocess.run(["chmod", "-R", "u+rwX", user.pw_dir], check=True)  # the directories of a Nix store
        assert until(lambda: run("userdel", name)), "userdel"
        shutil.rmtree(user.pw_dir)
