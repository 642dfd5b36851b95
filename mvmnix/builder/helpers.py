"""What git and Nix are given in the sandbox: the environment of each; starts neither."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mvmnix.sandbox import WORK

#: git(1) without configuration of a user or the system, prompts, replaced objects (git-replace(1)), or downloads that
#: were not asked for.
_GIT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
#: git-config(1): no hooks, no helpers, no protocol but http, nothing in the background.
_GIT_CONFIG: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "true",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.bareRepository": "all",
}
#: nix.conf(5): a store of the sandbox's own, no substituter, no registry, no configuration of a user or the system.
NIX: Final = MappingProxyType(
    {
        "NIX_CONF_DIR": f"{WORK}/none",
        "NIX_USER_CONF_FILES": "",
        "NIX_CONFIG": "\n".join(
            (
                "experimental-features = nix-command flakes",
                "build-users-group =",
                "substitute = false",
                "flake-registry =",
                "use-registries = false",
                "accept-flake-config = false",
                f"store = {WORK}/store",
            )
        ),
    }
)


def git(config: Mapping[str, str] | None = None) -> dict[str, str]:
    """Git's environment, with more configuration in it (git-config(1), GIT_CONFIG_COUNT), which may be secret."""
    pairs = _GIT_CONFIG | dict(config or {})
    settings = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (name, value) in enumerate(pairs.items()):
        settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return {**_GIT, **settings}
