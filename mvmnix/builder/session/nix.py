"""Spells the argument list of every Nix call, each strict flag written out; runs nothing.

Calls for the guest name Debian's programs in the builder image; calls for the host begin with the caller's `nix`.
"""

import re
from collections.abc import Iterable

from mvmnix.model import SYSTEM, Digest, HashMode, StorePath

#: The guest's loopback port on which the builder asks the host for what it needs; profiles/builder.nix names it too.
CACHE_PORT = 8000

#: Said here because nix, which sees no network but the loopback, would otherwise give up asking (libmain/shared.cc: it
#: heeds what the command line says, and not what nix.conf says). The host may have to read a large file first.
_NIX = (
    *("/usr/bin/nix", "--extra-experimental-features", "nix-command flakes", "--log-format", "raw"),
    *("--option", "substitute", "true"),
    *("--option", "connect-timeout", "60"),
    *("--option", "stalled-download-timeout", "600"),
    *("--option", "download-attempts", "1"),
)

#: Evaluation reads what the lock names and nothing else. Nix refuses a lock that would have to change; beside
#: `--no-write-lock-file` it would go on with one of its own making instead (libflake/flake.cc: lockFlake).
_PURE = (
    *("--option", "pure-eval", "true"),
    *("--option", "allow-import-from-derivation", "false"),
    *("--option", "accept-flake-config", "false"),
    *("--option", "flake-registry", ""),
    *("--option", "use-registries", "false"),
    *("--option", "eval-cache", "false"),
    "--no-update-lock-file",
)


def version() -> tuple[str, ...]:
    """In the guest: what Nix calls itself; prints `nix (Nix) 2.26.3` and a newline."""
    return (*_NIX, "--version")


def read_version(said: bytes) -> str:
    """The version in what `nix --version` printed; `unknown` when that is no version."""
    match = re.fullmatch(r"nix \(Nix\) ([0-9][0-9A-Za-z.+-]{0,31})\n?", said.decode("ascii", "replace"))
    return match[1] if match else "unknown"


def fetch_tree(tree: StorePath) -> tuple[str, ...]:
    """In the guest: bring the root tree into the store, through the same questions as everything else."""
    return ("/usr/bin/nix-store", "--realise", str(tree))


def flake_url(tree: StorePath, nar: Digest, directory: str) -> str:
    """A flake in a stored tree, locked by the tree's NAR hash (nix: "flake references", type path)."""
    where = f"&dir={directory}" if directory else ""
    return f"path:{tree}?narHash={nar.sri.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}{where}"


def evaluate(url: str, attribute: str) -> tuple[str, ...]:
    """In the guest: the derivation path of a package, by pure evaluation; prints it and a newline."""
    return (*_NIX, "eval", "--raw", *_PURE, f"{url}#packages.{SYSTEM}.{attribute}.drvPath")


def show_derivations(derivation: StorePath) -> tuple[str, ...]:
    """In the guest: the whole graph of a derivation as JSON."""
    return (*_NIX, "derivation", "show", "--recursive", str(derivation))


def build(derivation: StorePath, *, jobs: int) -> tuple[str, ...]:
    """In the guest: build a derivation's `out` with its log on stderr; prints the output path."""
    return (
        *(*_NIX, "build", "--no-link", "--print-out-paths", "--print-build-logs"),
        *("--max-jobs", str(jobs), "--cores", "0", "--option", "keep-going", "false"),
        f"{derivation}^out",
    )


def archive(output: StorePath, names: tuple[str, ...]) -> tuple[str, ...]:
    """In the guest: the named files of an output as a POSIX ustar archive on stdout."""
    return (
        *("/usr/bin/tar", "--create", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"),
        *("--mtime=@0", "--mode=0444", f"--directory={output}", "--", *names),
    )


def _options() -> tuple[str, ...]:
    """On the host: no substituter, no registry; root without build users builds as itself (nix.conf(5))."""
    return ("--option", "build-users-group", "", "--option", "substitute", "false", "--option", "flake-registry", "")


def _on_host(nix: str, *arguments: str) -> tuple[str, ...]:
    features = ("--extra-experimental-features", "nix-command flakes", "--log-format", "raw")
    return (nix, *features, *_options(), *arguments)


def host_restore(where: str) -> tuple[str, ...]:
    """On the host: unpack a NAR from stdin."""
    return ("nix-store", *_options(), "--restore", where)


def host_add(mode: HashMode, *paths: str) -> tuple[str, ...]:
    """On the host: add files or trees under their hashes; prints their store paths."""
    recursive = ("--recursive",) if mode is HashMode.NAR else ()
    return ("nix-store", *_options(), "--add-fixed", *recursive, "sha256", *paths)


def host_invalid(paths: Iterable[StorePath]) -> tuple[str, ...]:
    """On the host: which of these paths are not in the store; prints them."""
    return ("nix-store", *_options(), "--check-validity", "--print-invalid", *map(str, paths))


def host_evaluate(nix: str, tree: StorePath, nar: Digest, attribute: str) -> tuple[str, ...]:
    """On the host, for our own flake only: the derivation path of a package; prints it."""
    return _on_host(nix, "eval", "--raw", *_PURE, f"{flake_url(tree, nar, '')}#packages.{SYSTEM}.{attribute}.drvPath")


def host_show(nix: str, derivation: StorePath) -> tuple[str, ...]:
    """On the host: the whole graph of a derivation as JSON."""
    return _on_host(nix, "derivation", "show", "--recursive", str(derivation))


def host_build(nix: str, derivation: StorePath) -> tuple[str, ...]:
    """On the host: build a derivation's `out`; prints derivation and outputs as JSON."""
    return _on_host(nix, "build", "--no-link", "--json", "--print-build-logs", f"{derivation}^out")
