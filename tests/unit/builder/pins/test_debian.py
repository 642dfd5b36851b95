"""What apt prints is parsed as it stands, and its command lines name sources by hash."""

from pathlib import Path

import pytest

from mvmnix.builder.fetch.registries import Failure, Trouble
from mvmnix.builder.pins.debian import Apt, AptMirror, Target, parse_targets
from mvmnix.model import Digest, Source

BASH = Source("mirror://debian/pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb", "bash.deb", Digest("0" * 64))
ZLIB = Source("mirror://debian/pool/main/z/zlib/zlib1g_1.3~x_amd64.deb", "zlib.deb", Digest("1" * 64))
MIRROR = AptMirror("http://mirror.test/debian/")


def test_targets_are_parsed() -> None:
    text = "/lists/x_Packages.lz4\thttp://m/debian/\ttrixie\tstable\tmain\tamd64\tDebian\n"
    assert parse_targets(text) == (
        Target("/lists/x_Packages.lz4", "http://m/debian/", "trixie", "stable", "main", "amd64", "Debian"),
    )
    assert parse_targets("") == ()
    with pytest.raises(ValueError, match="something else"):
        parse_targets("E: no such thing\n")


def test_a_batch_is_one_child_with_uri_file_and_hash_for_each() -> None:
    argv = MIRROR.command([BASH, ZLIB], Path("/tmp/d")).argv
    assert argv[0] == "/usr/lib/apt/apt-helper"
    assert argv[argv.index("download-file") + 1 :] == (
        *("http://mirror.test/debian/pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb", f"/tmp/d/{'0' * 64}"),
        f"SHA256:{'0' * 64}",
        *("http://mirror.test/debian/pool/main/z/zlib/zlib1g_1.3~x_amd64.deb", f"/tmp/d/{'1' * 64}"),
        f"SHA256:{'1' * 64}",
    )


@pytest.mark.parametrize(
    ("why", "trouble"),
    [
        ("404  Not Found [IP: 192.0.2.1 80]", Trouble.GONE),
        ("File not found - /srv/pool/x.deb (2: No such file or directory)", Trouble.GONE),
        ("Hash Sum mismatch", Trouble.WRONG),
        ("File has unexpected size (3 != 4). Mirror sync in progress?", Trouble.WRONG),
        ("Temporary failure resolving 'mirror.test'", Trouble.FAILED),
        ("403  Forbidden", Trouble.FAILED),
    ],
)
def test_failures_are_told_by_uri(why: str, trouble: Trouble) -> None:
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
    gone, failed = Failure(Trouble.GONE, "404"), Failure(Trouble.FAILED, "no route")
    assert gone.joined(failed) == Failure(Trouble.FAILED, "404; no route")
    assert gone.joined(gone) == gone
