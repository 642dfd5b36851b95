"""Knows where a user's own directories of mvm's are (XDG Base Directory Specification), and opens each when needed."""

import os
from collections.abc import Mapping
from typing import Self

from mvmnix.errors import UsageError
from mvmnix.system import checkouts
from mvmnix.system.private_dirs import Directory


class Roots:
    """Where this user's state, cache, configuration and data live; each is opened, and made, when first asked for.

    XDG Base Directory Specification: `$XDG_STATE_HOME/mvmnix` and so on. One inside a checkout is refused
    (mvmnix/system/checkouts.py). A context manager.
    """

    def __init__(self, *, state: str, cache: str, config: str, data: str) -> None:
        """Absolute paths of the four directories."""
        self.paths: Mapping[str, str] = {"state": state, "cache": cache, "config": config, "data": data}
        self._open: dict[str, Directory] = {}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read HOME and the XDG variables. Raises UsageError when one is relative, or HOME is needed and missing."""

        def path(variable: str, default: str) -> str:
            value = environment.get(variable) or ""
            home = environment.get("HOME") or ""
            base = value or (f"{home}/{default}" if home else "")
            if not base.startswith("/"):
                named = f"{variable}={value!r}" if value else f"HOME={home!r}"
                hint = "set HOME, or the XDG_… variables, to absolute paths; as root: mvm --user NAME …"
                raise UsageError(f"{named} is not an absolute path", hint=hint)
            return f"{os.path.normpath(base)}/mvmnix"

        return cls(
            state=path("XDG_STATE_HOME", ".local/state"),
            cache=path("XDG_CACHE_HOME", ".cache"),
            config=path("XDG_CONFIG_HOME", ".config"),
            data=path("XDG_DATA_HOME", ".local/share"),
        )

    @property
    def state(self) -> Directory:
        """Images, bundles, locks, builds, machines, the audit log."""
        return self._directory("state")

    @property
    def cache(self) -> Directory:
        """What can be fetched again."""
        return self._directory("cache")

    @property
    def config(self) -> Directory:
        """The trust policy and the keys."""
        return self._directory("config")

    @property
    def data(self) -> Directory:
        """The Nix store of a user who has no other."""
        return self._directory("data")

    @property
    def directories(self) -> Mapping[str, Directory]:
        """All four of them, by their names in `paths`."""
        return {name: self._directory(name) for name in self.paths}

    def _directory(self, which: str) -> Directory:
        if which not in self._open:
            checkouts.refuse_inside({which: self.paths[which]}, ".")
            self._open[which] = Directory.create(self.paths[which])
        return self._open[which]

    def close(self) -> None:
        """Close whatever was opened."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
