"""The argument list of every Nix call, exactly."""

import pytest

from mvmnix.builder.nix import nix_commands
from mvmnix.digest import Digest
from mvmnix.model import HashMode, StorePath

TREE = StorePath("0" * 32, "source")
DRV = StorePath("1" * 32, "guest-hello.drv")
#: Its SRI form has a plus, slashes and an equals sign, none of which may stand in a URL's query.
NAR = Digest.from_sri("sha256-+/v7//////////////////////////////////////8=")
URL = f"path:/nix/store/00000000000000000000000000000000-source?narHash=sha256-%2B%2Fv7{'%2F' * 38}8%3D"
FLAKE = nix_commands.flake_url(TREE, NAR, "")
GUEST = (
    *("/usr/bin/nix", "--extra-experimental-features", "nix-command flakes", "--log-format", "raw"),
    *("--option", "substitute", "true", "--option", "connect-timeout", "60"),
    *("--option", "stalled-download-timeout", "600", "--option", "download-attempts", "1"),
    *("--option", "narinfo-cache-negative-ttl", "0"),
)
PURE = (
    *("--option", "pure-eval", "true"),
    *("--option", "accept-flake-config", "false", "--option", "flake-registry", ""),
    *("--option", "use-registries", "false", "--option", "eval-cache", "false", "--no-update-lock-file"),
)
IMPORTS = ("--option", "allow-import-from-derivation")
STORE = ("--option", "substitute", "false", "--option", "flake-registry", "")
HOST = ("/n/nix", "--extra-experimental-features", "nix-command flakes", "--log-format", "raw", *STORE)


TREES = 'set -f; exec /usr/bin/nix-store --export -- $(/usr/bin/nix-store --query --requisites "$@")'
CLOSURE = (
    "set -f; exec /usr/bin/nix-store --export --"
    r' $(/usr/bin/nix-store --query --requisites "$@" | grep "\.drv$")'
)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (nix_commands.version(), (*GUEST, "--version")),
        (nix_commands.host_version("/n/nix"), ("/n/nix", "--version")),
        (nix_commands.fetch_trees([TREE, DRV]), ("/usr/bin/nix-store", "--realise", "--", str(TREE), str(DRV))),
        (nix_commands.export_trees([TREE]), ("/bin/busybox", "sh", "-c", TREES, "trees", "--", str(TREE))),
        (
            nix_commands.import_derivations(TREE),
            ("/bin/busybox", "sh", "-c", 'exec /usr/bin/nix-store --import < "$2"', "import", "--", str(TREE)),
        ),
        (
            nix_commands.evaluate(FLAKE, "a.b"),
            (*GUEST, "eval", "--raw", *PURE, *IMPORTS, "false", "--", f"{URL}#packages.x86_64-linux.a.b.drvPath"),
        ),
        (
            nix_commands.evaluate(FLAKE, "a", from_derivation=True),
            (*GUEST, "eval", "--raw", *PURE, *IMPORTS, "true", "--", f"{URL}#packages.x86_64-linux.a.drvPath"),
        ),
        (
            nix_commands.read_inputs("1 + 1"),
            (
                *("/bin/busybox", "timeout", "-s", "KILL", "60"),
                *(*GUEST, "eval", "--json", *PURE, *IMPORTS, "false", "--expr", "1 + 1"),
            ),
        ),
        (nix_commands.check_lock(FLAKE), (*GUEST, "flake", "metadata", "--json", *PURE, "--", URL)),
        (
            nix_commands.list_attributes(FLAKE),
            (
                *("/bin/busybox", "timeout", "-s", "KILL", "60"),
                *(*GUEST, "eval", "--json", *PURE, *IMPORTS, "false"),
                *("--apply", "builtins.attrNames", "--", f"{URL}#packages.x86_64-linux"),
            ),
        ),
        (
            nix_commands.evaluate_parts(FLAKE),
            (
                *(*GUEST, "eval", "--json", *PURE, *IMPORTS, "false"),
                *("--apply", "builtins.mapAttrs (_: it: { derivation = it.drvPath; output = it.outPath; })"),
                *("--", f"{URL}#legacyPackages.x86_64-linux.parts"),
            ),
        ),
        (nix_commands.export_these([DRV, DRV]), ("/usr/bin/nix-store", "--export", "--", str(DRV), str(DRV))),
        (
            nix_commands.derivations_with(["0" * 32]),
            (
                *("/bin/busybox", "sh", "-c"),
                'printf "/nix/store/%s-\\n" "$@" | grep -l -F -f - /nix/store/*.drv; true',
                *("derivations", "0" * 32),
            ),
        ),
        (
            nix_commands.pressure(),
            (
                *("/bin/busybox", "sh", "-c"),
                "df -P -k /nix; df -P -i /nix; grep -E '^(oom_kill|nr_free_pages) ' /proc/vmstat",
            ),
        ),
        (
            nix_commands.export_closure([DRV]),
            (
                *("/bin/busybox", "sh", "-c"),
                CLOSURE,
                *("closure", "--", str(DRV)),
            ),
        ),
        (
            nix_commands.build([DRV], jobs=3),
            (
                *(*GUEST, "build", "--no-link", "--print-out-paths", "--log-format", "raw-with-logs"),
                *("--max-jobs", "3", "--cores", "0", "--option", "keep-going", "false"),
                *("--keep-failed", "--", f"{DRV}^out"),
            ),
        ),
        (
            nix_commands.archive(TREE, ("kernel", "-rf")),
            (
                *("/usr/bin/tar", "--create", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"),
                *("--mtime=@0", "--mode=0444", f"--directory={TREE}", "--", "kernel", "-rf"),
            ),
        ),
        (nix_commands.host_ask_store("/n/nix"), (*HOST, "store", "info")),
        (nix_commands.host_restore("/n/s", "/tmp/x"), ("/n/s", *STORE, "--restore", "--", "/tmp/x")),
        (
            nix_commands.host_add("/n/s", HashMode.NAR, "/tmp/x"),
            ("/n/s", *STORE, "--add-fixed", "--recursive", "sha256", "--", "/tmp/x"),
        ),
        (
            nix_commands.host_add("/n/s", HashMode.FLAT, "/tmp/x", "/tmp/y"),
            ("/n/s", *STORE, "--add-fixed", "sha256", "--", "/tmp/x", "/tmp/y"),
        ),
        (
            nix_commands.host_invalid("/n/s", [TREE]),
            ("/n/s", *STORE, "--check-validity", "--print-invalid", "--", str(TREE)),
        ),
        (
            nix_commands.host_evaluate("/n/nix", TREE, NAR, "builder"),
            (*HOST, "eval", "--raw", *PURE, *IMPORTS, "false", "--", f"{URL}#packages.x86_64-linux.builder.drvPath"),
        ),
        (nix_commands.host_requisites("/n/s", DRV), ("/n/s", *STORE, "--query", "--requisites", "--", str(DRV))),
        (nix_commands.host_export("/n/s", [DRV]), ("/n/s", *STORE, "--export", "--", str(DRV))),
        (
            nix_commands.host_build("/n/nix", DRV),
            (*HOST, "build", "--no-link", "--json", "--log-format", "raw-with-logs", "--", f"{DRV}^out"),
        ),
    ],
)
def test_argv(argv: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert argv == expected


def test_a_flake_url_names_the_hash_and_the_directory() -> None:
    assert nix_commands.flake_url(TREE, NAR, "") == URL
    assert nix_commands.flake_url(TREE, NAR, "examples/hello") == f"{URL}&dir=examples/hello"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (b"nix (Nix) 2.26.3\n", "2.26.3"),
        (b"nix (Nix) 2.30.0pre20250501_abc", "unknown"),
        (b"nix (Nix) 2.30.0pre20250501", "2.30.0pre20250501"),
        (b"nix (Nix) 2.26.3\nand more", "unknown"),
        (b"nix (Lix, like Nix) 2.91.1\n", "unknown"),
        (b"nix (Nix) \x1b[31m", "unknown"),
        (b"nix (Nix) \xff", "unknown"),
        (b"nix (Nix) " + b"1" * 33, "unknown"),
        (b"", "unknown"),
    ],
)
def test_versions(said: bytes, version: str) -> None:
    assert nix_commands.read_version(said) == version


def test_parts_are_built_as_everything_is_and_come_out_meanwhile() -> None:
    shell, applet, option, _, name, *words = nix_commands.build_and_export([DRV, TREE], jobs=3)
    assert (shell, applet, option, name) == ("/bin/busybox", "sh", "-c", "parts")
    *building, end = nix_commands.build((), jobs=3)
    assert words == [*building, "--option", "post-build-hook", "/build/hook", end, str(DRV), str(TREE)]
