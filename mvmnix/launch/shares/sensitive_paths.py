"""Lists places of this host that a share exposes: credentials, code that its users run later, and mvm's own program.

Tables by kind, with the variables that move a place elsewhere; mvm's own program is derived from the running process.
Whether a share exposes one of them is judged in risk_checks.py.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import mvmnix
from mvmnix.plan.share import is_within
from mvmnix.system import own_flake, procfs

#: Directories of the system: they, what is in them, and what they are in.
SYSTEM: Final = (
    *("/etc", "/proc", "/sys", "/dev", "/run", "/boot", "/var/run", "/var/lib/docker", "/var/lib/containerd"),
    *("/var/lib/containers", "/var/lib/libvirt", "/var/lib/incus", "/var/lib/lxd", "/var/lib/kubelet"),
)
#: Names that hold credentials, wherever they are: not read without a word in the plan.
CREDENTIALS: Final = frozenset(
    {
        # keys and password stores
        *(".ssh", ".gnupg", ".pki", ".password-store", ".local/share/keyrings", ".local/share/kwalletd"),
        *(".gnome2/keyrings", ".config/keepassxc", ".config/1Password", ".config/Bitwarden", ".config/Bitwarden CLI"),
        *(".config/sops", ".config/age", ".age", ".step", ".putty", ".Xauthority", ".ICEauthority", ".krb5"),
        # clouds, clusters and services
        *(".aws", ".azure", ".oci", ".kube", ".docker", ".minikube", ".helm", ".config/helm", ".config/containers"),
        *(".config/gcloud", ".config/doctl", ".config/hcloud", ".config/scw", ".config/linode-cli"),
        *(".config/openstack", ".fly", ".config/heroku", ".config/stripe", ".config/ngrok", ".ngrok2", ".wrangler"),
        *(".config/.wrangler", ".pulumi/credentials.json", ".terraform.d", ".terraformrc", ".vault-token", ".chef"),
        *(".databrickscfg", ".snowsql", ".kaggle", ".cache/huggingface/token", ".boto", ".s3cfg", ".mc"),
        *(".config/rclone", ".rclone.conf", ".smbcredentials", ".config/op"),
        # forges and package registries
        *(".netrc", ".git-credentials", ".config/git/credentials", ".config/gh", ".config/hub", ".config/glab-cli"),
        *(".config/tea", ".config/github-copilot", ".subversion", ".npmrc", ".pypirc", ".config/pip", ".pip"),
        *(".config/pypoetry", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials"),
        *(".local/share/gem", ".composer/auth.json", ".config/composer/auth.json"),
        *(".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".config/nix"),
        # databases, mail, remote desktops
        *(".pgpass", ".my.cnf", ".mylogin.cnf", ".msmtprc", ".config/msmtp", ".mbsyncrc", ".fetchmailrc"),
        *(".offlineimaprc", ".mutt", ".muttrc", ".config/neomutt", ".config/remmina", ".local/share/remmina"),
        *(".config/filezilla", ".vnc"),
        # browsers and messengers
        *(".mozilla", ".config/mozilla", ".librewolf", ".thunderbird", ".config/google-chrome", ".config/chromium"),
        *(".config/google-chrome-beta", ".config/google-chrome-unstable", ".config/BraveSoftware"),
        *(".config/microsoft-edge", ".config/vivaldi", ".config/opera", ".config/Signal", ".config/Slack"),
        *(".config/discord", ".var/app", "snap/firefox", "snap/chromium", "snap/thunderbird"),
        # what was typed
        *(".bash_history", ".zsh_history", ".local/share/fish", ".psql_history", ".mysql_history", ".python_history"),
    }
)
#: Names of code that programs run, or of settings that name programs, wherever they are: not written without a word.
CODE: Final = frozenset(
    {
        # read by a shell, or at login
        *(".profile", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".zshrc"),
        *(".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".mkshrc", ".cshrc", ".tcshrc", ".login"),
        *(".logout", ".config/fish", ".inputrc", ".oh-my-zsh", ".config/starship.toml", ".pam_environment"),
        *(".xprofile", ".xsession", ".xsessionrc", ".xinitrc", ".xserverrc", ".gnomerc", ".selected_editor"),
        *(".bash_completion", ".local/share/bash-completion", ".config/zsh", ".config/nushell", ".config/xonsh"),
        *(".xonshrc", ".config/powershell", ".bash_it", ".zinit", ".local/share/zinit", ".antigen", ".zplug", ".zim"),
        # who may log in
        *(".rhosts", ".shosts", ".k5login", ".k5users", ".yubico", ".config/Yubico", ".google_authenticator"),
        # started by the session, the desktop or a daemon
        *(".config/systemd", ".local/share/systemd", ".config/environment.d", ".config/autostart"),
        *(".config/autostart-scripts", ".config/plasma-workspace", ".kde/Autostart", ".config/user-dirs.dirs"),
        *(".local/share/applications", ".local/share/dbus-1", ".local/share/flatpak", ".local/share/gnome-shell"),
        *(".local/share/plasma", ".local/share/kio", ".local/share/nautilus", ".config/mimeapps.list", ".mailcap"),
        *(".config/sway", ".config/i3", ".i3", ".config/hypr", ".config/awesome", ".config/openbox", ".xmonad"),
        *(".config/bspwm", ".config/sxhkd", ".config/waybar", ".forward", ".procmailrc", ".config/containers"),
        *(".config/polybar", ".config/rofi", ".config/dunst", ".config/xfce4", ".config/lxsession", ".config/pulse"),
        *(".asoundrc", ".config/mpv", ".fehbg", ".screenlayout"),
        # editors, terminals and debuggers
        *(".vim", ".vimrc", ".gvimrc", ".exrc", ".config/nvim", ".local/share/nvim", ".emacs", ".emacs.d"),
        *(".config/emacs", ".spacemacs", ".doom.d", ".config/doom", ".config/helix", ".config/kak", ".vscode"),
        *(".vscode-server", ".vscode-oss", ".config/Code", ".config/VSCodium", ".idea", ".devcontainer"),
        *(".config/vim", ".nanorc", ".config/nano", ".config/micro", ".config/zed", ".config/JetBrains"),
        *(".config/sublime-text", ".tmux", ".config/zellij", ".config/foot", ".config/ghostty", ".config/mc"),
        *(".config/ranger", ".config/lf", ".config/yazi", ".irssi", ".weechat", ".config/weechat"),
        *(".tmux.conf", ".config/tmux", ".screenrc", ".config/kitty", ".config/alacritty", ".wezterm.lua"),
        *(".config/wezterm", ".gdbinit", ".gdbearlyinit", ".config/gdb", ".lldbinit", ".lesskey", ".lessfilter"),
        # version control, and what reacts to a working directory
        *(".git", ".gitconfig", ".config/git", ".hg", ".hgrc", ".config/hg", ".jj", ".config/jj", ".envrc"),
        *(".config/direnv", ".config/mise"),
        # interpreters, package managers and downloaders
        *(".pythonrc", ".pythonrc.py", ".pdbrc", ".irbrc", ".pryrc", ".gemrc", ".Rprofile", ".Renviron", ".octaverc"),
        *(".psqlrc", ".sqliterc", ".config/uv", ".yarnrc", ".config/nixpkgs", ".config/home-manager", ".nix-profile"),
        *(".nix-defexpr", ".local/state/nix", ".wgetrc", ".curlrc", ".config/curlrc", ".ansible.cfg", ".mavenrc"),
    }
)
#: The same where they lie in a home: in a project these names are caches or its own settings.
HOME_CODE: Final = frozenset(
    {
        *("bin", ".bin", ".local/bin", ".local/lib", "go/bin", ".cargo", ".rustup", ".m2", ".gradle", ".npm"),
        *(".npm-global", ".local/share/pnpm", ".config/yarn", ".nvm", ".volta", ".deno", ".bun", ".pyenv", ".rbenv"),
        *(".rvm", ".gem", ".asdf", ".local/share/mise", ".sdkman", ".ghcup", ".stack", ".cabal", ".opam", ".julia"),
        *(".sbt", ".ivy2", ".ipython", ".jupyter", ".local/share/jupyter", ".ansible", ".vagrant.d", ".direnv"),
        *(".terraform.d", ".fzf", ".cache/pre-commit", "snap", ".var", ".local/share/pipx", ".local/share/uv"),
        *("miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda", "perl5", ".cpan", ".linuxbrew"),
        *(".cache/uv", ".cache/pip", ".cache/pypoetry"),  # files of environments, by hard links, and of the next ones
    }
)
#: Code of the system beside SYSTEM, which may be a user's: a store for one user, crontabs.
SYSTEM_CODE: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix", "/snap", "/var/lib/flatpak"),
    *("/var/spool/cron", "/var/spool/at"),
)
#: Variables with another place, or several with colons in between, for what lies at a name of a home; "" is the home.
MOVED: Final[Mapping[str, str]] = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
    "ZDOTDIR": "",
    "GNUPGHOME": ".gnupg",
    "PASSWORD_STORE_DIR": ".password-store",
    "XAUTHORITY": ".Xauthority",
    "AWS_CONFIG_FILE": ".aws",
    "AWS_SHARED_CREDENTIALS_FILE": ".aws",
    "GOOGLE_APPLICATION_CREDENTIALS": ".config/gcloud",
    "CLOUDSDK_CONFIG": ".config/gcloud",
    "AZURE_CONFIG_DIR": ".azure",
    "OCI_CLI_CONFIG_FILE": ".oci",
    "KUBECONFIG": ".kube",
    "DOCKER_CONFIG": ".docker",
    "REGISTRY_AUTH_FILE": ".config/containers",
    "HELM_CONFIG_HOME": ".config/helm",
    "RCLONE_CONFIG": ".config/rclone",
    "SOPS_AGE_KEY_FILE": ".config/sops",
    "TF_CLI_CONFIG_FILE": ".terraformrc",
    "NETRC": ".netrc",
    "GH_CONFIG_DIR": ".config/gh",
    "GIT_CONFIG_GLOBAL": ".gitconfig",
    "NPM_CONFIG_USERCONFIG": ".npmrc",
    "npm_config_userconfig": ".npmrc",
    "PIP_CONFIG_FILE": ".config/pip",
    "NIX_USER_CONF_FILES": ".config/nix",
    "PGPASSFILE": ".pgpass",
    "PGSERVICEFILE": ".pgpass",
    "KRB5CCNAME": ".krb5",
    "HISTFILE": ".bash_history",
    "INPUTRC": ".inputrc",
    "CARGO_HOME": ".cargo",
    "RUSTUP_HOME": ".rustup",
    "GRADLE_USER_HOME": ".gradle",
    "GOPATH": "go",
    "GOBIN": "go/bin",
    "PYTHONUSERBASE": ".local",
    "PYENV_ROOT": ".pyenv",
    "RBENV_ROOT": ".rbenv",
    "NVM_DIR": ".nvm",
    "VOLTA_HOME": ".volta",
    "PIPX_HOME": ".local/share/pipx",
    "UV_CACHE_DIR": ".cache/uv",
    "PIP_CACHE_DIR": ".cache/pip",
    "PNPM_HOME": ".local/share/pnpm",
    "ASDF_DATA_DIR": ".asdf",
    "SDKMAN_DIR": ".sdkman",
    "OPAMROOT": ".opam",
    "IPYTHONDIR": ".ipython",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "GEM_HOME": ".gem",
    "BUN_INSTALL": ".bun",
    "DENO_DIR": ".deno",
    "NPM_CONFIG_PREFIX": ".npm-global",
    "npm_config_prefix": ".npm-global",
    "COMPOSER_HOME": ".config/composer",
    "JULIA_DEPOT_PATH": ".julia",
    "STACK_ROOT": ".stack",
    "CABAL_DIR": ".cabal",
    "ANSIBLE_CONFIG": ".ansible.cfg",
    "ANSIBLE_HOME": ".ansible",
    "VAGRANT_HOME": ".vagrant.d",
    "MISE_DATA_DIR": ".local/share/mise",
    "DIRENV_CONFIG": ".config/direnv",
    "PRE_COMMIT_HOME": ".cache/pre-commit",
    "POETRY_CONFIG_DIR": ".config/pypoetry",
    "UV_TOOL_DIR": ".local/share/uv",
    "UV_PYTHON_INSTALL_DIR": ".local/share/uv",
    "MINIKUBE_HOME": ".minikube",
    "PULUMI_HOME": ".pulumi",
    "BOTO_CONFIG": ".boto",
    "HF_HOME": ".cache/huggingface",
    "WGETRC": ".wgetrc",
    "SCREENRC": ".screenrc",
    "PSQLRC": ".psqlrc",
    "ZSH": ".oh-my-zsh",
}
#: Variables with files or directories, with colons in between, of which programs and shells run what lies there.
CODE_VARIABLES: Final = (
    *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "PYTHONPATH", "PYTHONSTARTUP"),
    *("PYTHONHOME", "PERL5LIB", "RUBYLIB", "NODE_PATH", "LUA_PATH", "R_PROFILE_USER", "GCONV_PATH", "GIT_EXEC_PATH"),
    *("GIT_TEMPLATE_DIR", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS", "CLASSPATH", "R_LIBS", "R_LIBS_USER", "LUA_CPATH"),
    *("GIO_EXTRA_MODULES", "GTK_PATH", "QT_PLUGIN_PATH", "SHELL", "EDITOR", "VISUAL", "PAGER", "BROWSER"),
    *("GIT_EDITOR", "GIT_ASKPASS", "GIT_SSH", "SSH_ASKPASS", "SUDO_ASKPASS"),
)
#: Components of a path that are followed, those of symbolic links too; the kernel follows 40 links
#: (path_resolution(7)). Bytes of a script's first line that the kernel reads (execve(2)).
_MOST_STEPS: Final = 1000
_FIRST_LINE: Final = 256


def list_credential_places(homes: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield where credentials would lie, in these homes and where variables move them."""
    return _list_places(CREDENTIALS, homes, environment)


def list_code_places(homes: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield where code would lie that is run later, of the system and in these homes, and where variables move it."""
    yield from SYSTEM_CODE
    yield from _list_places(CODE | HOME_CODE, homes, environment)
    for variable in CODE_VARIABLES:
        yield from _split_paths(environment.get(variable, ""))
    yield from filter(os.path.isabs, _script_directory())


def _list_places(names: Iterable[str], homes: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    moved = [(name, place) for variable, name in MOVED.items() for place in _split_paths(environment.get(variable, ""))]
    bases = (*(("", home) for home in homes), *moved)
    for name in names:
        for old, new in bases:
            if not old:
                yield f"{new.rstrip('/')}/{name}"
            elif is_within(name, old):
                yield f"{new.rstrip('/')}{name.removeprefix(old)}"


def _split_paths(value: str) -> Iterator[str]:
    """Yield the absolute paths of a variable, without "." and ".."; others depend on the working directory."""
    return map(os.path.normpath, filter(os.path.isabs, value.split(":")))


def _script_directory() -> Sequence[str]:
    """The entry of sys.path that is the caller's: where its script lies, or the working directory of `python -m`."""
    return () if sys.flags.safe_path else sys.path[:1]


def find_name(parts: Sequence[str], names: Mapping[str, str]) -> str | None:
    """Return the first of the names, whose keys are case-folded, in a path; some file systems ignore case."""
    folded = tuple(map(str.casefold, parts))
    for index, name in enumerate(folded):
        for key in (name, "/".join(folded[index : index + 2]), "/".join(folded[index : index + 3])):
            if key in names:
                return names[key]
    return None


def list_program_trees() -> Iterator[str]:
    """Yield the directories of mvm's code and its libraries, all of which is its program, and its checkout, if any."""
    package = Path(mvmnix.__file__).resolve().parent
    yield from map(str, (package, package.parent, own_flake.directory()))
    if sys.prefix != sys.base_prefix:
        yield from (sys.prefix, sys.exec_prefix)
    yield from filter(os.path.isabs, sys.path[len(_script_directory()) :])


def list_program_directories() -> Iterator[str]:
    """Yield the directories in which a file, or a link on the way to it, lies that the next `mvm` runs.

    Other files there may have nothing to do with mvm: scripts, interpreters, shared libraries.
    """
    yield from (sys.base_prefix, sys.base_exec_prefix)
    scripts = [f"{place}/mvm" for place in _split_paths(os.environ.get("PATH", ""))]
    scripts += [str(Path(sys.argv[0]).absolute())] if Path(sys.argv[0]).name == "mvm" else []
    programs = [sys.executable, *filter(os.path.isfile, scripts)]
    programs += (*filter(None, map(_read_interpreter, programs)), *list_program_trees())
    for program in programs:
        yield from (os.path.dirname(file) for file in follow_links(program))  # noqa: PTH120 - texts
    with suppress(OSError):
        for line in procfs.lines(Path("/proc/self/maps")):
            *_, file = line.split(maxsplit=5)
            if file.startswith("/"):
                yield os.path.dirname(file)  # noqa: PTH120 - a text


def follow_links(path: str) -> Iterator[str]:
    """Yield each symbolic link on the way to a file, by the real path of its directory, and the file last."""
    left, here = path.split("/")[::-1], "/"
    for _ in range(_MOST_STEPS):
        if not left:
            break
        name = left.pop()
        step = os.path.normpath(f"{here}/{name}")
        try:
            target = os.readlink(step)  # noqa: PTH115 - a text, which may be relative
        except OSError:
            here = step
            continue
        yield step
        here = "/" if target.startswith("/") else here
        left += target.split("/")[::-1]
    yield here


def _read_interpreter(script: str) -> str | None:
    """The interpreter that a script's first line names; None without one."""
    try:
        with Path(script).open("rb") as file:
            first = file.readline(_FIRST_LINE)
    except OSError:
        return None
    words = os.fsdecode(first[2:]).split()
    return words[0] if first.startswith(b"#!") and words and words[0].startswith("/") else None
