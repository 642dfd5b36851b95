"""What apt prints is parsed as it stands, and its command lines name sources by hash."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.fetch.registries import Failure, FailureKind
from mvmnix.builder.fetch.routes import Endpoint, ToConfigured
from mvmnix.builder.pins.debian import Apt, AptMirror, AptSettings, IndexTarget, parse_targets
from mvmnix.digest import Digest
from mvmnix.model import Source

BASH = Source("mirror://debian/pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb", "bash.deb", Digest("0" * 64))
ZLIB = Source("mirror://debian/pool/main/z/zlib/zlib1g_1.3~x_amd64.deb", "zlib.deb", Digest("1" * 64))
MIRROR = AptMirror("http://mirror.test/debian/", AptSettings({}, {}, b"machine mirror.test password hush"))


def test_targets_are_parsed() -> None:
    text = "/lists/x_Packages.lz4\thttp://m/debian/\ttrixie\tstable\tmain\tamd64\tDebian\n"
    assert parse_targets(text) == (
        IndexTarget("/lists/x_Packages.lz4", "http://m/debian/", "trixie", "stable", "main", "amd64", "Debian"),
    )
    assert parse_targets("") == ()
    with pytest.raises(ValueError, match="something else"):
        parse_targets("E: no such thing\n")


def test_a_batch_is_one_child_with_uri_file_and_hash_for_each() -> None:
    command = MIRROR.command([BASH, ZLIB])
    assert (command.program.paths, command.route) == (
        ("/usr/lib/apt/apt-helper",),
        ToConfigured(frozenset({Endpoint("mirror.test", 80)})),
    )
    assert command.input == b"machine mirror.test password hush"
    assert "hush" not in repr(command)
    argv = command.arguments
    assert argv[argv.index("download-file") + 1] == "--"
    assert argv[argv.index("--") + 1 :] == (
        *("http://mirror.test/debian/pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb", f"/work/files/{'0' * 64}"),
        f"SHA256:{'0' * 64}",
        *("http://mirror.test/debian/pool/main/z/zlib/zlib1g_1.3~x_amd64.deb", f"/work/files/{'1' * 64}"),
        f"SHA256:{'1' * 64}",
    )


@pytest.mark.parametrize(
    ("why", "trouble"),
    [
        ("404  Not Found [IP: 192.0.2.1 80]", FailureKind.GONE),
        ("File not found - /srv/pool/x.deb (2: No such file or directory)", FailureKind.GONE),
        ("Failed to stat - copy-stat (2: No such file or directory)", FailureKind.GONE),
        ("Hash Sum mismatch", FailureKind.WRONG),
        ("File has unexpected size (3 != 4). Mirror sync in progress?", FailureKind.WRONG),
        ("Temporary failure resolving 'mirror.test'", FailureKind.FAILED),
        ("403  Forbidden", FailureKind.FAILED),
    ],
)
def test_failures_are_told_by_uri(why: str, trouble: FailureKind) -> None:
    stderr = f"""Err:1 something
W: Download is performed unsandboxed
E: Failed to fetch http://mirror.test/debian/pool/main/b/bash/bash_5.2.37-2%2bb10_amd64.deb  {why}
   Hashes of expected file:
E: Download Failed
"""
    assert MIRROR.failures([BASH, ZLIB], stderr) == {BASH: Failure(trouble, why)}
    assert MIRROR.failures([ZLIB], stderr) == {}


def test_the_repair_names_packages() -> None:
    assert Apt().describe(ZLIB) == ("zlib1g", "1.3~x")
    assert Apt().repair([ZLIB, BASH]) == "mvm pin update bash zlib1g"


def test_failures_of_several_mirrors_join() -> None:
    gone, failed = Failure(FailureKind.GONE, "404"), Failure(FailureKind.FAILED, "no route")
    assert gone.joined(failed) == Failure(FailureKind.FAILED, "404; no route")
    assert gone.joined(gone) == gone


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/shadow",
        "../../etc/shadow",
        "pool/../../etc/shadow",
        "pool/./x.deb",
        "pool//x.deb",
        "pool/%2e%2e/x.deb",
        "pool/x%0a.deb",
        "pool/x.deb\nURI: http://elsewhere.test/",
        "pool/x.deb?y",
        "pool/x y.deb",
        "pool/$(id).deb",
        "pool/é.deb",
    ],
)
def test_what_is_no_plain_path_is_no_source(path: str) -> None:
    for use in (Apt().describe, lambda one: MIRROR.command([one])):
        with pytest.raises(ValueError, match=r"path in a package archive|address of a source"):
            use(Source(f"mirror://debian/{path}", "x.deb", Digest("0" * 64)))


def test_a_file_out_of_a_package_is_described_by_its_package() -> None:
    assert Apt().describe(Source(f"{ZLIB.uri}#usr/lib/libz.so", "libz", ZLIB.digest)) == ("zlib1g", "1.3~x")


@given(st.text(st.sampled_from("abz09+.~_%-/:3aA2eE0\n #?\\é"), max_size=40))
def test_a_uri_for_apt_stays_below_its_mirror(path: str) -> None:
    try:
        source = Source(f"mirror://debian/{path}", "x", Digest("0" * 64))
        uri = MIRROR.command([source]).arguments[-3]
    except ValueError:
        return
    assert re.fullmatch(r"http://mirror\.test/debian(/[A-Za-z0-9+~_%-][A-Za-z0-9+.~_%-]*)+", uri)
    assert {escape.lower() for escape in re.findall("%..?", uri)} <= {"%3a", "%2b", "%7e"}
