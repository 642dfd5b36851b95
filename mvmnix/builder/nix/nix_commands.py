"""Spells the argument list of every Nix call, each strict flag written out; runs nothing.

Calls for the guest name Debian's programs in the builder image; calls for the host begin with the caller's program.
What varies stands behind `--`, and is a noun with an alphabet of its own or one of the types of arguments.py.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, override

from mvmnix.arguments import AttributePath, Operand, is_subdirectory, unsafe
from mvmnix.digest import NIX32, Digest
from mvmnix.model import STORE_DIR, SYSTEM, HashMode, StorePath

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
    *("--option", "narinfo-cache-negative-ttl", "0"),  # what was a miss may be known at the next try
)
#: What builders say, as they say it: `--print-build-logs` does nothing for a log that isn't a terminal's, and without
#: it their last lines are all that is ever seen (libmain/loggers.cc). For builds only: what evaluation says is read.
_WITH_LOGS = ("--log-format", "raw-with-logs")
#: So many hashes or derivations are named in one call.
MOST_NAMES = 256

#: Evaluation reads what the lock names and nothing else. Nix refuses a lock that would have to change; beside
#: `--no-write-lock-file` it would go on with one of its own making instead (libflake/flake.cc: lockFlake).
_PURE = (
    *("--option", "pure-eval", "true"),
    *("--option", "accept-flake-config", "false"),
    *("--option", "flake-registry", ""),
    *("--option", "use-registries", "false"),
    *("--option", "eval-cache", "false"),
    "--no-update-lock-file",
)
_WITHOUT_IMPORTS = (*_PURE, "--option", "allow-import-from-derivation", "false")


class FlakeUrl(Operand):
    """The reference of a flake in a stored tree, without an attribute: what `flake_url` makes."""

    __slots__ = ()
    _FORM: Final = re.compile(rf"path:{STORE_DIR}/[0-9A-Za-z+._=%-]+\?narHash=[0-9A-Za-z%-]+(&dir=[0-9A-Za-z+._=/-]+)?")

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """Whatever has another form."""
        return "" if cls._FORM.fullmatch(text) else "it is not a reference of a stored flake"


def in_batches(paths: Sequence[StorePath]) -> Iterator[Sequence[StorePath]]:
    """Part paths such that each part can stand in one call."""
    return (paths[start : start + MOST_NAMES] for start in range(0, len(paths), MOST_NAMES))


def version() -> tuple[str, ...]:
    """In the guest: what Nix calls itself; prints `nix (Nix) 2.26.3` and a newline."""
    return (*_NIX, "--version")


def read_version(said: bytes) -> str:
    """The version in what `nix --version` printed; `unknown` when that is no version."""
    match = re.fullmatch(r"nix \(Nix\) ([0-9][0-9A-Za-z.+-]{0,31})\n?", said.decode("ascii", "replace"))
    return match[1] if match else "unknown"


def fetch_trees(trees: Iterable[StorePath]) -> tuple[str, ...]:
    """In the guest: bring trees into the store, through the same questions as everything else."""
    return ("/usr/bin/nix-store", "--realise", "--", *map(str, trees))


def flake_url(tree: StorePath, nar: Digest, directory: str) -> FlakeUrl:
    """A flake in a stored tree, locked by the tree's NAR hash (nix: "flake references", type path).

    Raises RefusedError [argument-unsafe] for a directory that isn't one beneath the tree.
    """
    if not is_subdirectory(directory):
        raise unsafe(directory, "it is not a directory of a flake")
    where = f"&dir={directory}" if directory else ""
    nar_hash = nar.sri.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    # a store path's name may have a question mark, which would begin the query
    return FlakeUrl(f"path:{str(tree).replace('?', '%3F')}?narHash={nar_hash}{where}")


def _package(url: FlakeUrl, attribute: str) -> Operand:
    """Raises RefusedError [argument-unsafe] for what is no attribute path."""
    return Operand(f"{url}#packages.{SYSTEM}.{AttributePath(attribute)}.drvPath")


def evaluate(url: FlakeUrl, attribute: str, *, from_derivation: bool = False) -> tuple[str, ...]:
    """In the guest: the derivation path of a package, by pure evaluation; prints it.

    `from_derivation`: evaluation may build what it imports.
    """
    imports = ("--option", "allow-import-from-derivation", "true" if from_derivation else "false")
    return (*_NIX, "eval", "--raw", *_PURE, *imports, "--", _package(url, attribute))


#: How long a flake's inputs may take to be read, in seconds. They are plain data, or should be.
READING_SECONDS = 60
_LIMITED = ("/bin/busybox", "timeout", "-s", "KILL", str(READING_SECONDS))


def read_inputs(expression: str) -> tuple[str, ...]:
    """In the guest: the value of an expression as JSON (lockfile/inputs.py); the kernel ends it when it takes long."""
    return (*_LIMITED, *_NIX, "eval", "--json", *_WITHOUT_IMPORTS, "--expr", expression)


def list_attributes(url: FlakeUrl) -> tuple[str, ...]:
    """In the guest: the names of a flake's packages, as a JSON array; the kernel ends it when it takes long."""
    package_set = Operand(f"{url}#packages.{SYSTEM}")
    return (*_LIMITED, *_NIX, "eval", "--json", *_WITHOUT_IMPORTS, "--apply", "builtins.attrNames", "--", package_set)


def check_lock(url: FlakeUrl) -> tuple[str, ...]:
    """In the guest: whether Nix takes a flake's lock as it is; it fails where it would write another one."""
    return (*_NIX, "flake", "metadata", "--json", *_PURE, "--", url)


def export_closure(derivations: Iterable[StorePath]) -> tuple[str, ...]:
    """In the guest: these derivations and all that they are made from, for formats/nix_export.py."""
    closure = r'/usr/bin/nix-store --query --requisites "$@" | grep "\.drv$"'
    # a store path may have a question mark, which a shell would look for files with
    script = f"set -f; exec /usr/bin/nix-store --export -- $({closure})"
    return ("/bin/busybox", "sh", "-c", script, "closure", "--", *map(str, derivations))


def export_trees(trees: Iterable[StorePath]) -> tuple[str, ...]:
    """In the guest: these paths and all that they refer to, for formats/nix_export.py."""
    script = 'set -f; exec /usr/bin/nix-store --export -- $(/usr/bin/nix-store --query --requisites "$@")'
    return ("/bin/busybox", "sh", "-c", script, "trees", "--", *map(str, trees))


def import_derivations(export: StorePath) -> tuple[str, ...]:
    """In the guest: take what a stored file holds, an export, into the store; prints the paths."""
    return ("/bin/busybox", "sh", "-c", 'exec /usr/bin/nix-store --import < "$2"', "import", "--", str(export))


def export_these(derivations: Iterable[StorePath]) -> tuple[str, ...]:
    """In the guest: these derivations and no others, for formats/nix_export.py."""
    return ("/usr/bin/nix-store", "--export", "--", *map(str, derivations))


def derivations_with(hashes: Iterable[str]) -> tuple[str, ...]:
    """In the guest: which derivations name a path with one of these hashes; prints their paths.

    Raises RefusedError [argument-unsafe] for a text that isn't a store path's hash.
    """
    wanted = tuple(hashes)
    for text in wanted:
        if not re.fullmatch(rf"[{NIX32}]{{32}}", text):
            raise unsafe(text, "it is not a hash of a store path")
    script = f'printf "{STORE_DIR}/%s-\\n" "$@" | grep -l -F -f - {STORE_DIR}/*.drv; true'
    return ("/bin/busybox", "sh", "-c", script, "derivations", *wanted)


def pressure() -> tuple[str, ...]:
    """In the guest: what its kernel says of room for the build, and of processes that it killed for want of memory."""
    script = "df -P -k /nix; df -P -i /nix; grep -E '^(oom_kill|nr_free_pages) ' /proc/vmstat"
    return ("/bin/busybox", "sh", "-c", script)


def evaluate_parts(url: FlakeUrl) -> tuple[str, ...]:
    """In the guest: by name, derivation and output path of each of mvm's own parts (modules/default.nix), as JSON."""
    both = "builtins.mapAttrs (_: it: { derivation = it.drvPath; output = it.outPath; })"
    return (*_NIX, "eval", "--json", *_WITHOUT_IMPORTS, "--apply", both, "--", f"{url}#legacyPackages.{SYSTEM}.parts")


def build(derivations: Iterable[StorePath], *, jobs: int) -> tuple[str, ...]:
    """In the guest: build the `out` of derivations with their log on stderr; prints the output paths.

    A failed build's directory stays, so that a full disk is still full when the kernel is asked.
    """
    return (
        *(*_NIX, "build", "--no-link", "--print-out-paths", *_WITH_LOGS),
        *("--max-jobs", str(jobs), "--cores", "0", "--option", "keep-going", "false", "--keep-failed", "--"),
        *(f"{derivation}^out" for derivation in derivations),
    )


#: Runs a build, whose derivations stand behind `--`, and writes each output as an export once it is built: Nix calls
#: the hook for it. What was not built, such as what came from a cache, follows at the end. The status is the build's.
_BUILD_AND_EXPORT: Final = r"""
set -f; cd /build; mkfifo built || exit 1; exec 3<>built
printf '#!/bin/busybox sh\nexec /bin/busybox echo "$OUT_PATHS" >/build/built\n' >hook; chmod 0755 hook
wanted=; operand=
for it in "$@"; do
  shift; set -- "$@" "$it$operand"
  [ -z "$operand" ] || wanted="$wanted $it"
  [ "$it" != -- ] || operand=^out
done
left=" $(/usr/bin/nix-store --query --outputs -- $wanted | tr '\n' ' ')" || exit 1
out() {
  case "$left" in *" $1 "*) ;; *) return ;; esac
  left="${left%%" $1 "*} ${left#*" $1 "}"
  /usr/bin/nix-store --export -- "$1" || exit 1
}
{ "$@" >&2; echo "end $?" >&3; } &
while read -r word rest <&3; do
  [ "$word" != end ] || break
  for it in $word $rest; do out "$it"; done
done
[ "$rest" = 0 ] || exit "$rest"
for it in $left; do out "$it"; done
"""


def build_and_export(derivations: Iterable[StorePath], *, jobs: int) -> tuple[str, ...]:
    """In the guest: build the one output of each of these, as `build` does, for formats/nix_export.py."""
    *building, end = build((), jobs=jobs)
    hook = ("--option", "post-build-hook", "/build/hook")
    return ("/bin/busybox", "sh", "-c", _BUILD_AND_EXPORT, "parts", *building, *hook, end, *map(str, derivations))


def archive(output: StorePath, names: tuple[str, ...]) -> tuple[str, ...]:
    """In the guest: the named files of an output as a POSIX ustar archive on stdout."""
    return (
        *("/usr/bin/tar", "--create", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"),
        *("--mtime=@0", "--mode=0444", f"--directory={output}", "--", *names),
    )


#: On the host: no substituter, no registry. Which store is told by NixStore.options, in front of these.
_ON_HOST = ("--option", "substitute", "false", "--option", "flake-registry", "")


def _on_host(nix: str, *arguments: str) -> tuple[str, ...]:
    features = ("--extra-experimental-features", "nix-command flakes", "--log-format", "raw")
    return (nix, *features, *_ON_HOST, *arguments)


def host_version(nix: str) -> tuple[str, ...]:
    """On the host: what Nix calls itself; prints as `version` does."""
    return (nix, "--version")


def host_ask_store(nix: str) -> tuple[str, ...]:
    """On the host: whether the store can be opened; prints its URL and Nix's version."""
    return _on_host(nix, "store", "info")


def host_restore(nix_store: str, where: str) -> tuple[str, ...]:
    """On the host: unpack a NAR from stdin, to an absolute path."""
    return (nix_store, *_ON_HOST, "--restore", "--", _absolute(where))


def host_add(nix_store: str, mode: HashMode, *paths: str) -> tuple[str, ...]:
    """On the host: add files or trees, by absolute paths, under their hashes; prints their store paths."""
    recursive = ("--recursive",) if mode is HashMode.NAR else ()
    return (nix_store, *_ON_HOST, "--add-fixed", *recursive, "sha256", "--", *map(_absolute, paths))


def _absolute(path: str) -> str:
    """Raises RefusedError [argument-unsafe] for a path that isn't absolute, or has `..` in it."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise unsafe(path, "it is not an absolute path")
    return Operand(path)


def host_invalid(nix_store: str, paths: Iterable[StorePath]) -> tuple[str, ...]:
    """On the host: which of these paths are not in the store; prints them."""
    return (nix_store, *_ON_HOST, "--check-validity", "--print-invalid", "--", *map(str, paths))


def host_evaluate(nix: str, tree: StorePath, nar: Digest, attribute: str) -> tuple[str, ...]:
    """On the host, for our own flake only: the derivation path of a package; prints it."""
    return _on_host(nix, "eval", "--raw", *_WITHOUT_IMPORTS, "--", _package(flake_url(tree, nar, ""), attribute))


def host_requisites(nix_store: str, derivation: StorePath) -> tuple[str, ...]:
    """On the host: a derivation and all that it refers to, however far; prints their paths."""
    return (nix_store, *_ON_HOST, "--query", "--requisites", "--", str(derivation))


def host_export(nix_store: str, derivations: Iterable[StorePath]) -> tuple[str, ...]:
    """On the host: these derivations and no others, for formats/nix_export.py."""
    return (nix_store, *_ON_HOST, "--export", "--", *map(str, derivations))


def host_build(nix: str, derivation: StorePath) -> tuple[str, ...]:
    """On the host: build a derivation's `out`; prints derivation and outputs as JSON."""
    return _on_host(nix, "build", "--no-link", "--json", *_WITH_LOGS, "--", f"{derivation}^out")
