"""A working directory, a home and an environment that are one trap: whatever runs something of theirs leaves a mark."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

#: Programs that a child of mvm, or a child of that, could look for by PATH or in its working directory.
PROGRAMS: Final = (
    *("git", "git-remote-https", "nix", "nix-store", "nix-build", "nix-prefetch-url", "nix-daemon", "bwrap", "prlimit"),
    *(
        "setpriv",
        "sh",
        "bash",
        "env",
        "ssh",
        "gpg",
        "tar",
        "gzip",
        "xz",
        "bzip2",
        "zstd",
        "unzip",
        "cat",
        "sed",
        "tail",
    ),
    *("pip", "pip3", "python", "python3", "apt-get", "apt-helper", "apt-key", "dpkg", "curl", "wget", "http", "https"),
    *("mkfs.erofs", "fsck.erofs", "virtiofsd", "crun", "qemu-system-x86_64", "newuidmap", "newgidmap", "diffoscope"),
    *("less", "more", "pager", "vi", "editor", "xdg-open", "www-browser", "buildkite-agent", "circleci", "gcloud"),
    *("true", "id", "mount", "ldconfig", "ld.so", "gcc", "cc", "keyring", "pass", "mvm", "sort", "find", "sha256sum"),
)
#: Modules that Python could import out of a directory that it was given by mistake.
MODULES: Final = ("pip", "sitecustomize", "usercustomize", "click", "json", "os", "mvmnix", "tomllib", "packaging")
#: Libraries that programs of the system load by name.
LIBRARIES: Final = ("libz.so.1", "libselinux.so.1", "libcap.so.2", "libpcre2-8.so.0", "libstdc++.so.6")
_LIBRARY: Final = """
#include <fcntl.h>
#include <unistd.h>
unsigned la_version(unsigned version) { return version; }
__attribute__((constructor)) static void sprung(void) { close(open("%s", O_CREAT | O_WRONLY, 0666)); }
"""


@dataclass(frozen=True, slots=True)
class Traps:
    """`here` is the working directory, `home` the home; `marks` has a file for each trap that went off."""

    path: Path

    @property
    def here(self) -> Path:
        return self.path / "here"

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def marks(self) -> Path:
        return self.path / "marks"

    @property
    def library(self) -> Path:
        return self.here / "trap.so"

    def sprung(self) -> list[str]:
        """The traps that went off, by their names; they are set again."""
        found = sorted(path.name for path in self.marks.iterdir())
        for name in found:
            (self.marks / name).unlink()
        return found

    def script(self, path: Path, mark: str) -> str:
        """A program there that leaves a mark; its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n: >'{self.marks}/{mark}'\n")
        path.chmod(0o755)
        return str(path)

    def git_config(self, where: str) -> str:
        """Settings of git, each of which names a program."""
        bad = self.script(self.here / f"git-config-{where}", f"git-config-{where}")
        return f"""[core]
\tfsmonitor = {bad}
\thooksPath = {self.hooks()}
\tpager = {bad}
\tsshCommand = {bad}
\taskPass = {bad}
\tgitProxy = {bad}
\tattributesFile = {self.here}/.gitattributes
[alias]
\tstatus = !{bad}
\trev-parse = !{bad}
\tcat-file = !{bad}
[filter "trap"]
\tclean = {bad}
\tsmudge = {bad}
\tprocess = {bad}
\trequired = true
[diff]
\texternal = {bad}
[credential]
\thelper = !{bad}
[uploadpack]
\tpackObjectsHook = {bad}
[init]
\ttemplateDir = {self.here}
[protocol]
\tallow = always
"""

    def hooks(self) -> Path:
        """A directory of hooks."""
        for name in (
            "post-checkout",
            "reference-transaction",
            "pre-auto-gc",
            "fsmonitor-watchman",
            "post-index-change",
        ):
            self.script(self.here / "hooks" / name, f"hook-{name}")
        return self.here / "hooks"

    def nix_config(self, where: str) -> str:
        """Settings of Nix that name a program or a library."""
        bad = self.script(self.here / f"nix-config-{where}", f"nix-config-{where}")
        return f"plugin-files = {self.library}\npre-build-hook = {bad}\npost-build-hook = {bad}\nbuild-hook = {bad}\n"


def lay(path: Path) -> Traps:
    """All of them. Nothing here has an effect yet."""
    traps = Traps(path)
    for directory in (traps.here, traps.home, traps.marks, path / "temporary"):
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    traps.marks.chmod(0o777)
    for name in PROGRAMS:
        traps.script(traps.here / name, f"program-{name}")
    for directory in (traps.here, traps.home / ".local/lib/python3.13/site-packages"):
        directory.mkdir(parents=True, exist_ok=True)
        for name in MODULES:
            (directory / f"{name}.py").write_text(f"open({str(traps.marks / f'module-{name}')!r}, 'w')\n")
        (directory / "trap.pth").write_text(f"import os; open({str(traps.marks / 'pth')!r}, 'w')\n")
    source = path / "trap.c"
    source.write_text(_LIBRARY % (traps.marks / "library"))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", traps.library, source], check=True)
    for name in LIBRARIES:
        (traps.here / name).symlink_to(traps.library)
    _configure(traps)
    return traps


def _configure(traps: Traps) -> None:
    """Files that programs read as their configuration, in the working directory, in the home and beside it."""
    bad = traps.script(traps.here / "configured", "configured")
    apt = "".join(f'{name} "{traps.here}";\n' for name in ("Dir::Bin::methods", "Dir::Bin::solvers", "Dir::Etc"))
    apt += "".join(f'{name} {{"{bad}";}};\n' for name in ("DPkg::Pre-Invoke", "APT::Update::Pre-Invoke"))
    shell = f": >'{traps.marks}/shell'\n"
    texts = {
        "nix.conf": traps.nix_config("here"),
        "apt.conf": apt + f'Acquire::http::Proxy-Auto-Detect "{bad}";\n',
        "ld.so.preload": f"{traps.library}\n",
        ".git/config": "[core]\n\trepositoryformatversion = 0\n" + traps.git_config("here"),
        ".git/HEAD": "ref: refs/heads/main\n",
        ".gitattributes": "* filter=trap diff=trap\n",
        "pip.conf": f"[global]\npython = {bad}\n",
        "startup.py": f"open({str(traps.marks / 'startup')!r}, 'w')\n",
        "profile": shell,
        ".envrc": shell,
    }
    for name in (".git/objects", ".git/refs"):
        (traps.here / name).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (traps.here / name).parent.mkdir(parents=True, exist_ok=True)
        (traps.here / name).write_text(text)
    config = {"nix/nix.conf": traps.nix_config("home"), "git/config": traps.git_config("home")}
    config |= {"pip/pip.conf": texts["pip.conf"], "git/attributes": texts[".gitattributes"]}
    for name, text in config.items():
        (traps.home / ".config" / name).parent.mkdir(parents=True, exist_ok=True)
        (traps.home / ".config" / name).write_text(text)
    for name, text in {".gitconfig": traps.git_config("user"), ".profile": shell, ".bashrc": shell}.items():
        (traps.home / name).write_text(text)


def environment(traps: Traps) -> dict[str, str]:
    """Variables that have a program, a library or a module run, or name a file that does."""
    here, bad = str(traps.here), traps.script(traps.here / "variable", "variable")
    git = dict.fromkeys(
        ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_ASKPASS", "GIT_EDITOR"), bad
    )
    git |= {"GIT_PROXY_COMMAND": bad, "GIT_DIR": f"{here}/.git", "GIT_WORK_TREE": here, "GIT_EXEC_PATH": here}
    git |= dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG"), f"{here}/.git/config")
    git |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": bad}
    git |= {"GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={bad}'", "GIT_TEMPLATE_DIR": here, "GIT_CONFIG_NOSYSTEM": "0"}
    git |= {name: f"{traps.marks}/{name}" for name in ("GIT_TRACE", "GIT_TRACE2", "GIT_TRACE_SETUP")}
    nix = {"NIX_CONFIG": traps.nix_config("variable"), "NIX_CONF_DIR": here, "NIX_USER_CONF_FILES": f"{here}/nix.conf"}
    nix |= {
        "NIX_REMOTE": f"unix://{here}/socket",
        "NIX_BIN_DIR": here,
        "NIX_BUILD_HOOK": bad,
        "NIX_PATH": f"nixpkgs={here}",
    }
    python = {"PYTHONPATH": here, "PYTHONSTARTUP": f"{here}/startup.py", "PYTHONHOME": here, "PYTHONINSPECT": "1"}
    python |= {"PYTHONUSERBASE": f"{traps.home}/.local", "PYTHONBREAKPOINT": "pip", "PYTHONPLATLIBDIR": here}
    linker = {"LD_PRELOAD": str(traps.library), "LD_LIBRARY_PATH": here, "LD_AUDIT": str(traps.library)}
    linker |= {"GCONV_PATH": here, "LOCPATH": here}
    shells = {
        "BASH_ENV": f"{here}/profile",
        "ENV": f"{here}/profile",
        "PS4": f"$(: >{traps.marks}/ps4)",
        "CDPATH": here,
    }
    shells |= {"SHELLOPTS": "xtrace", "SHELL": bad, "PAGER": bad, "EDITOR": bad, "VISUAL": bad, "BROWSER": bad}
    xdg = {f"XDG_{name}_HOME": f"{traps.home}/.config" for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    xdg |= {"XDG_RUNTIME_DIR": str(traps.path / "temporary"), "XDG_CONFIG_DIRS": f"{traps.home}/.config"}
    others = {"APT_CONFIG": f"{here}/apt.conf", "PIP_PYTHON": bad, "OPENSSL_CONF": f"{here}/apt.conf", "PERL5LIB": here}
    others |= {
        "HOME": str(traps.home),
        "TMPDIR": str(traps.path / "temporary"),
        "PATH": f"{here}:.:",
        "LESSOPEN": f"|{bad}",
    }
    return {**git, **nix, **python, **linker, **shells, **xdg, **others, "BUILDKITE": "true", "CIRCLECI": "true"}


@contextmanager
def armed(traps: Traps) -> Iterator[None]:
    """In the hostile directory, with the hostile environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(traps).items():
            patch.setenv(name, value)
        patch.chdir(traps.here)
        yield


def careless(argv: list[str]) -> None:
    """Run a program as mvm must not: with what is inherited, in the directory where it is."""
    subprocess.run(argv, env=os.environ, capture_output=True, check=False)
