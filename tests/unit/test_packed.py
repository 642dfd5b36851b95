"""Nothing packed is unpacked in mvm's own process: not by its modules, nor by a library that they load."""

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

import pytest

from mvmnix.sandbox.helper_command import Bounds
from tests.repository import ROOT
from tests.unit import spawns

#: Modules that take packed bytes apart, Python's own and what packages bring.
_MODULES: Final = (
    "zlib|gzip|bz2|lzma|tarfile|zipfile|zipimport|zipapp|compression|backports|xmlrpc"
    "|brotli|brotlicffi|libarchive|lz4|pyzstd|snappy|zstandard"
)
#: The same by the names that are used: these, what reaches them by a name in a string, and shutil's own unpackers.
UNPACKERS: Final = re.compile(
    rf"({_MODULES})(\.\w+)*|importlib\.(import_module|__import__)|shutil\.\w*unpack\w*"
    r"|codecs\.\w+|pkgutil\.\w+|runpy\.\w+"
)
#: Only files with such a word are looked at more closely.
_WORDS: Final = re.compile(rf"\b({_MODULES}|importlib|shutil|codecs|pkgutil|runpy)\b")
_IMPORTS: Final = re.compile(rf"^[ \t]*(?:import|from)[ \t]+(?:{_MODULES})\b|unpack_archive\(", re.MULTILINE)
#: The room whose code runs in the sandbox (docs/explanation/isolation.md), of which packets.py is used on both sides.
WORKER: Final = "mvmnix/builder/fetch/worker/"
#: By path, the text of modules that run in mvm's own process.
MODULES: Final = {
    where: path.read_text()
    for path in sorted((ROOT / "mvmnix").rglob("*.py"))
    if not (where := str(path.relative_to(ROOT))).startswith(WORKER)
}
#: Places in them that use such a name, and why nothing is unpacked there.
PLACES: Final = {
    "mvmnix/audit/git_branch.py:_write": "packs an object",
    "mvmnix/formats/escaping.py:TerminalStream.__init__": "UTF-8",
    "mvmnix/cli/main.py:LazyGroup.get_command": "modules of mvm's own",
    "mvmnix/cli/as_root.py:leave": "modules of mvm's own",
    "mvmnix/api/__init__.py:__getattr__": "modules of mvm's own",
    "mvmnix/__init__.py:__getattr__": "modules of mvm's own",
    "mvmnix/launcher/main.py:_import": "modules of mvm's own",
    "mvmnix/images/image_archive.py:_begin": "writes a header",
    "mvmnix/launch/copy/tarball.py:TarWriter.file": "a constant",
    "mvmnix/launch/copy/tarball.py:TarWriter.enter": "a constant",
    "mvmnix/launch/copy/tarball.py:TarWriter.commit": "a constant",
    "mvmnix/launch/copy/tarball.py:TarWriter._head": "writes a header",
    "mvmnix/launch/copy/tarball.py:chunks": "a tar stream that isn't packed; its headers are bounded "
    "(tests/unit/launch/copy/test_files.py::test_headers_of_a_tar_stream_fill_no_memory)",
    "mvmnix/network/gateway/process.py:_import_parsers": "modules of mvm's own",
}
#: Loads libseccomp.
SECCOMP: Final = "mvmnix/sandbox/seccomp.py"
#: Modules of Python's own that mvm imports and that import an unpacker, and what mvm uses of them.
STANDARD: Final = {"shutil": "names, trees and copies; its unpackers are named above"}
#: Files of libraries that mvm is installed with and that import one, and why they unpack nothing of a stranger's.
LIBRARIES: Final = {
    "defusedxml/xmlrpc.py": "a part that no library here imports",
    "jaraco/context/__init__.py": "a function that keyring doesn't call",
    "jinja2/environment.py": "writes compiled templates, which mvm has none of",
    "jinja2/loaders.py": "a loader of compiled templates; mvm has the one of files",
    "pygments/formatters/other.py": "writes",
    "pygments/lexers/_php_builtins.py": "a program that makes this very file",
    "pygments/lexers/special.py": "reads pygments' own dumps, which are never shown",
    "requests/utils.py": "certificates in a zip file that the user's own variables name",
    "rich/console.py": "a checksum",
    "urllib3/response.py": "is told to unpack nothing "
    "(tests/unit/provenance/test_keyless_signing.py::test_a_packed_answer_is_not_asked_for_and_not_unpacked)",
    "urllib3/util/request.py": "looks which unpackers there are",
}
#: By the place in docs/reference/processes.md, the bounds of a child that unpacks in the sandbox; those of trees by
#: default.
CHILDREN: Final = {
    "mvmnix/builder/fetch/downloads.py:downloaded": "mvmnix.builder.fetch.downloads:BOUNDS",
    "mvmnix/builder/fetch/lanes.py:_Worker._run": "mvmnix.builder.fetch.lanes:_BOUNDS",
    "mvmnix/builder/fetch/unpack.py:fetchzip": "mvmnix.sandbox.helper:Bounds",
    "mvmnix/builder/fetch/unpack.py:unpacked_archive": "mvmnix.sandbox.helper:Bounds",
    "mvmnix/builder/fetch/unpack.py:unpacked_commit": "mvmnix.sandbox.helper:Bounds",
    "mvmnix/builder/flakes/git.py:_sandbox": "mvmnix.builder.flakes.git:_BOUNDS",
    "mvmnix/builder/pins/debian.py:_unpacked": "mvmnix.builder.pins.debian:_LIST",
    "mvmnix/builder/pins/seed.py:executable": "mvmnix.builder.pins.seed:BOUNDS",
    "mvmnix/builder/reproduce/file_differences.py:_diffoscope": "mvmnix.builder.reproduce.file_differences:_BOUNDS",
    "mvmnix/builder/reproduce/file_differences.py:_listed": "mvmnix.builder.reproduce.file_differences:_BOUNDS",
}


def test_mvm_unpacks_nothing() -> None:
    closer = {where: text for where, text in MODULES.items() if _WORDS.search(text)}
    found = {f"{where}:{function}" for where, text in closer.items() for function in spawns.in_source(text, UNPACKERS)}
    assert found == set(PLACES)
    assert not [where for where, text in MODULES.items() if "__import__" in text]


def test_no_library_in_c_is_loaded_but_for_filters() -> None:
    assert [where for where, text in MODULES.items() if re.search(r"CDLL\((?!None\b)", text)] == [SECCOMP]


def test_a_tar_stream_is_read_as_it_comes() -> None:
    """In the mode `r|` tarfile looks for nothing packed."""
    modes = [mode for text in MODULES.values() for mode in re.findall(r"tarfile\.open\(.*", text)]
    assert [mode for mode in modes if 'mode="r|")' not in mode] == []


def imported(text: str) -> Iterator[str]:
    """What a module imports, wherever it does; what a script in a constant of its own does is no part of it."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                pass


def test_the_worker_is_loaded_in_the_sandbox_alone() -> None:
    package = WORKER.strip("/").replace("/", ".")
    names = {name for text in MODULES.values() if "worker" in text for name in imported(text)}
    theirs = {name for name in names if name.startswith(package)}
    assert {name for name in theirs if not f"{name}.".startswith(f"{package}.packets.")} == set()
    assert not _IMPORTS.search((ROOT / WORKER / "packets.py").read_text())


def test_modules_of_pythons_own_that_unpack() -> None:
    names = {name for text in MODULES.values() for name in re.findall(r"(?m)^[ \t]*(?:import|from) ([\w.]+)", text)}
    standard = {name for name in names if name.partition(".")[0] in sys.stdlib_module_names}
    found = {name: util.find_spec(name) for name in standard if not re.match(_MODULES, name)}
    origins = {name: it.origin for name, it in found.items() if it is not None and it.origin is not None}
    python = {name: Path(origin).read_text() for name, origin in origins.items() if origin.endswith(".py")}
    assert {name for name, text in python.items() if _IMPORTS.search(text)} == set(STANDARD)


def test_libraries_that_unpack() -> None:
    locked = json.loads((ROOT / "modules/python/lock.json").read_bytes())["packages"]
    files = [file for name in locked for file in metadata.files(name) or () if file.suffix == ".py"]
    assert {str(file) for file in files if _IMPORTS.search(file.read_text())} == set(LIBRARIES)


@pytest.mark.parametrize("place", CHILDREN)
def test_a_child_that_unpacks_is_bounded(place: str) -> None:
    assert f"| `{place}` |" in (ROOT / "docs/reference/processes.md").read_text()
    module, _, name = CHILDREN[place].partition(":")
    given = getattr(importlib.import_module(module), name)
    bounds = given() if isinstance(given, type) else given
    assert isinstance(bounds, Bounds)
    assert max(bounds.room, bounds.memory, bounds.output) <= 4 << 30


@pytest.mark.parametrize(
    "text",
    [
        "import zlib\ndef f(x): return zlib.decompress(x)",
        "from lzma import open as go\ndef f(): go('x')",
        "def f():\n  import tarfile as t\n  t.open('x')",
        "import shutil\ndef f(): shutil.unpack_archive('x')",
        "from compression import zstd\ndef f(x): zstd.decompress(x)",
        "import codecs\ndef f(x): codecs.decode(x, 'bz2')",
        "from importlib import import_module\ndef f(): import_module('zip' + 'file')",
        "from pkgutil import resolve_name\ndef f(x): resolve_name('z' + 'lib:decompress')(x)",
        "import runpy\ndef f(): runpy.run_module('tar' + 'file')",
    ],
)
def test_no_way_to_unpack_is_overlooked(text: str) -> None:
    assert _WORDS.search(text)
    assert list(spawns.in_source(text, UNPACKERS)) == ["f"]
