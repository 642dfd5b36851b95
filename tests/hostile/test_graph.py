"""A builder VM that was taken over describes a graph, or prints something else: it is asked for by hash, or refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.session import graph
from mvmnix.builder.session.build import Build
from mvmnix.builder.session.session import BuildRequest
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import lock, nar
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.stream_frames import End
from mvmnix.model import Digest, HashMode, Source, StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.fakes import AtOnce, Market

PIN = Source("mirror://debian/pool/p/pin.deb", "pin.deb", Digest.of(b"pin"))
SEED = Source("mirror://debian/pool/b/busybox.deb#usr/bin/busybox", "busybox", Digest.of(b"nar"), HashMode.NAR)


def fixed(source: Source = PIN, **changes: Any) -> dict[str, Any]:
    """A derivation of a fixed output, as `nix derivation show` (2.26) describes it; `output_x` changes its output."""
    output = {
        "hash": source.digest.hex,
        "hashAlgo": "sha256",
        "method": source.mode,
        "path": str(source.store_path),
    } | {name.removeprefix("output_"): value for name, value in changes.items() if name.startswith("output_")}
    described = {
        "args": [],
        "builder": "/bin/sh",
        "env": {"urls": source.uri, "name": source.name},
        "inputDrvs": {},
        "name": source.name,
        "outputs": {"out": output},
        "system": "x86_64-linux",
    }
    return described | {name: value for name, value in changes.items() if not name.startswith("output_")}


PLAIN = {"name": "hello", "env": {}, "outputs": {"out": {"path": str(StorePath.flat("hello", PIN.digest))}}}


def shown(*derivations: Any) -> bytes:
    return json.dumps({f"/nix/store/{number:032d}-x.drv": it for number, it in enumerate(derivations)}).encode()


def test_an_honest_graph() -> None:
    assert graph.parse_graph(shown(PLAIN, fixed(), fixed(SEED), fixed())).sources == tuple(sorted((PIN, SEED)))
    single = fixed(env={"url": PIN.uri})
    assert graph.parse_graph(shown(single)).sources == (PIN,)


@pytest.mark.parametrize(
    "derivation",
    [
        pytest.param(fixed(output_method="text"), id="an unknown method"),
        pytest.param(fixed(output_method=[]), id="a method that is a list"),
        pytest.param(fixed(output_method={}), id="a method that is an object"),
        pytest.param(fixed(output_method=None), id="no method"),
        pytest.param(fixed(output_hashAlgo="md5"), id="MD5"),
        pytest.param(fixed(output_hashAlgo=["sha256"]), id="a list of algorithms"),
    ],
)
def test_what_has_no_sha256_is_refused_where_it_is_needed(derivation: Any) -> None:
    """A cache may have what it is for, so that it stands in the graph refuses nothing yet."""
    found = graph.parse_graph(shown(PLAIN, derivation))
    name = next(name for name, it in found.derivations.items() if it.unsupported)
    with pytest.raises(RefusedError) as caught:
        found.needed(StorePath.parse(name), have=())
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)
    made = StorePath.parse(derivation["outputs"]["out"]["path"])
    assert found.needed(StorePath.parse(name), have={made}) == ()


@pytest.mark.parametrize(
    "derivation",
    [
        pytest.param(fixed(output_path=str(SEED.store_path)), id="another path than its hash makes"),
        pytest.param(fixed(output_method="nar"), id="another method than its path says"),
        pytest.param(fixed(output_hash=PIN.digest.sri), id="a hash in another spelling"),
        pytest.param(fixed(output_hash=PIN.digest.hex.upper()), id="a hash in capitals"),
        pytest.param(fixed(output_hash=None), id="no hash"),
        pytest.param(fixed(output_path=None), id="no path"),
        pytest.param(fixed(output_path="/etc/shadow"), id="a path elsewhere"),
        pytest.param(fixed(output_path=f"{PIN.store_path}/../../etc"), id="a path upwards"),
        pytest.param(fixed(name="../pin.deb"), id="a name upwards"),
        pytest.param(fixed(name="a name"), id="a name with a space"),
        pytest.param(fixed(name=""), id="an empty name"),
        pytest.param(fixed(name="x" * 300), id="a long name"),
        pytest.param(fixed(name=None), id="no name"),
        pytest.param(fixed(name={"a": 1}), id="a name that is an object"),
        pytest.param(fixed(env={}), id="no address"),
        pytest.param(fixed(env={"urls": ""}), id="an empty address"),
        pytest.param(fixed(env={"urls": "pin.deb"}), id="a path as address"),
        pytest.param(fixed(env={"urls": {"a": "mirror://debian/x"}}), id="addresses as an object"),
        pytest.param(fixed(env={"urls": [{}]}), id="addresses as a list of objects"),
        pytest.param(fixed(env={"__json": "{"}), id="structured attributes that are none"),
        pytest.param(fixed(env={"__json": "[]"}), id="structured attributes that are a list"),
        pytest.param(fixed(env={"urls": "mirror://debian/\u202egnp.deb"}), id="an address that runs backwards"),
        pytest.param(fixed(env={"urls": "mirror://debian/" + "x" * 2048}), id="a long address"),
        pytest.param(fixed(env=[]), id="an environment that is a list"),
        pytest.param(fixed(outputs=[]), id="outputs that are a list"),
        pytest.param(fixed(outputs={"out": []}), id="an output that is a list"),
        pytest.param([], id="a list"),
        pytest.param(None, id="null"),
    ],
)
def test_a_lie_about_a_derivation(derivation: object) -> None:
    with pytest.raises(RefusedError) as caught:
        graph.parse_graph(shown(PLAIN, derivation))
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"\xff\xfe{}", id="another encoding"),
        pytest.param(b"[" * 200_000, id="too deep"),
        pytest.param(b'{"a":' * 200_000, id="too deep with names"),
        pytest.param(b'{"a": ' + b"1" * 10_000 + b"}", id="a long number"),
        pytest.param(shown(*[PLAIN] * (graph.MAX_DERIVATIONS + 1)), id="too many"),
        pytest.param(b"{}" + b" " * graph.LIMIT, id="too long"),
    ],
)
def test_no_graph(text: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        graph.parse_graph(text)
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "env", "outputs", "output_hash", "output_hashAlgo", "output_method", "output_path")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1))
def test_whatever_stands_in_a_field(changes: Mapping[str, Any]) -> None:
    try:
        found = graph.parse_graph(shown(fixed(**changes)))
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}
    else:
        assert set(found.sources) <= {PIN}


@given(JSON)
def test_whatever_is_printed(value: object) -> None:
    try:
        assert graph.parse_graph(json.dumps(value).encode()).sources == ()
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}


# A whole build, in a machine that answers as it likes.


@dataclass
class Machine:
    """A builder that was taken over: `says` has its answer to each program, by a word of the argument list."""

    says: Mapping[str, tuple[bytes, bytes, int]]
    asked: list[Sequence[str]] = field(default_factory=list)

    def exec(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Callable[[bytes], None],
        stderr: Callable[[bytes], None],
        timeout: float | None,
        directory: str,
    ) -> ExitStatus:
        self.asked.append(argv)
        word = next(word for word in self.says if word in argv)
        out, err, status = self.says[word]
        for at in range(0, len(out), 1000):
            stdout(out[at : at + 1000])
        stderr(err)
        return ExitStatus(End.EXITED, code=status)


class Silent:
    def step(self, name: str) -> None: ...

    def log(self, data: bytes) -> None: ...


PATH = f"{StorePath.flat('x', PIN.digest)}\n".encode()
HONEST = {
    "--version": (b"nix (Nix) 2.26.3\n", b"", 0),
    "--realise": (b"", b"", 0),
    "eval": (PATH, b"", 0),
    "show": (b"{}", b"", 0),
    "build": (PATH, b"", 0),
    "--create": (b"", b"", 0),
    "sh": (b"", b"", 0),
}


@pytest.fixture
def attempt(tmp_path: Any) -> Callable[..., Machine]:
    """Build `{}` as a flake in a machine that says this; the machine is returned when the build did."""
    tree = nar.Dir({b"flake.nix": nar.File.of(b"{}")})
    request = BuildRequest(source_of(tree, uri="path:x", commit=None, directory=""), lock.parse(None), "default")

    def run(**says: tuple[bytes, bytes, int]) -> Machine:
        words = {
            {"version": "--version", "tree": "--realise", "archive": "--create"}.get(k, k): v for k, v in says.items()
        }
        machine = Machine({**HONEST, **words})
        stores = [Store(Directory.create(str(tmp_path / name))) for name in ("sources", "images")]
        work = Build(
            request,
            store=stores[0],
            images=stores[1],
            fetchers=Market(stores[0]),
            workers=AtOnce(),
            progress=Silent(),
        )
        work.run(machine, jobs=1)
        return machine

    return run


@pytest.mark.parametrize(
    "says",
    [
        pytest.param({"eval": (b"", b"", 0)}, id="no derivation"),
        pytest.param({"eval": (PATH * 2, b"", 0)}, id="two derivations"),
        pytest.param({"eval": (b"--option\n", b"", 0)}, id="an option for a derivation"),
        pytest.param({"eval": (b"/nix/store/../../etc/shadow\n", b"", 0)}, id="a path elsewhere"),
        pytest.param({"eval": (PATH.strip() + b"/../../x", b"", 0)}, id="a path upwards"),
        pytest.param({"eval": (b"\xff\xfe", b"", 0)}, id="no text"),
        pytest.param({"eval": (b"a" * 10_000_000, b"", 0)}, id="no end"),
        pytest.param({"version": (b"a" * 10_000_000, b"", 0)}, id="a version without end"),
        pytest.param({"show": (b"a" * 1000, b"", 0)}, id="a graph that is none"),
        pytest.param({"build": (b"", b"", 0)}, id="no output"),
        pytest.param({"build": (PATH * 3, b"", 0)}, id="three outputs"),
        pytest.param({"archive": (b"", b"", 0)}, id="no archive"),
        pytest.param({"archive": (b"\0" * 10_000, b"", 0)}, id="an empty archive"),
        pytest.param({"archive": (b"kernel" * 1000, b"", 0)}, id="something else than an archive"),
    ],
)
def test_what_a_build_refuses(attempt: Callable[..., Machine], says: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        attempt(**says)
    assert set(caught.value.codes) == {Code.OUTPUT_MALFORMED}


def failed(log: str) -> tuple[bytes, bytes, int]:
    return (b"", log.encode(), 1)


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("error: cannot update unlocked flake input 'x' in pure mode", Code.FLAKE_UNLOCKED),
        ("error: flake 'x' requires lock file changes but they're not allowed", Code.FLAKE_UNLOCKED),
        ("… while updating the lock file of flake 'x'\nerror: unable to download", Code.FLAKE_UNLOCKED),
        ("error: access to absolute path '/etc' is forbidden in pure evaluation mode", Code.FLAKE_UNLOCKED),
        ("error: in pure evaluation mode, 'fetchTree' will not fetch unlocked input 'x'", Code.FLAKE_UNLOCKED),
    ],
)
def test_what_nix_complains_about_is_told_in_our_words(attempt: Callable[..., Machine], log: str, code: Code) -> None:
    """The flake here has no lock; tests/hostile/test_refusals_flakes.py has real ones, in a real builder."""
    with pytest.raises(RefusedError) as caught:
        attempt(eval=failed(log))
    assert caught.value.codes == (code,)
    assert caught.value.reasons[0].hint


def test_a_build_that_speaks_like_an_evaluation_has_failed_all_the_same(attempt: Callable[..., Machine]) -> None:
    with pytest.raises(MvmnixError, match="the build failed") as caught:
        attempt(build=failed("error: in pure evaluation mode, unlocked input, requires lock file changes"))
    assert type(caught.value) is MvmnixError


def test_an_attribute_that_is_not_there(attempt: Callable[..., Machine]) -> None:
    with pytest.raises(UsageError, match="no such package"):
        attempt(eval=failed("error: flake 'path:x' does not provide attribute 'packages.x86_64-linux.y'"))


@pytest.mark.parametrize("step", ["eval", "show", "build", "tree", "version"])
def test_last_words_are_shown_and_cannot_write_to_the_terminal(attempt: Callable[..., Machine], step: str) -> None:
    with pytest.raises(Exception, match="the build failed") as caught:
        attempt(**{step: failed("line\n" * 50 + "error: \x1b[2J\x9b31m\u202efailed\r\n")})
    text = str(caught.value)
    assert text.isascii() or all(c.isprintable() or c == "\n" for c in text)
    assert "failed" in text
    assert text.count("line") < 25


def test_a_version_that_is_none_is_unknown(attempt: Callable[..., Machine]) -> None:
    from mvmnix.builder.nix import nix_commands

    assert nix_commands.read_version(b"nix (Nix) 2.26.3\n") == "2.26.3"
    for said in (b"", b"nix (Nix) 2.26.3\nmore", b"\xff", b"nix (Nix) " + b"9" * 100):
        assert nix_commands.read_version(said) == "unknown"
    with pytest.raises(RefusedError):  # and the build goes on to its archive
        attempt(version=(b"\xff", b"", 0))
