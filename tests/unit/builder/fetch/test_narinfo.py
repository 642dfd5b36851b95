"""What a binary cache says of a path, and whose word counts."""

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mvmnix.builder.fetch import narinfo
from mvmnix.builder.fetch.narinfo import NarInfo, vouched
from mvmnix.builder.fetch.worker import documents
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.config import CacheKey
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath

#: Made by `nix copy --to 'file:///…?compression=xz&secret-key=…'` (Nix 2.26.3), with the key below.
REAL = b"""StorePath: /nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello
URL: nar/17gd6zzlkx90irc6qawagdkgh1d7qvlnq46yjf7xiqw9ycz7zq4a.nar.xz
Compression: xz
FileHash: sha256:17gd6zzlkx90irc6qawagdkgh1d7qvlnq46yjf7xiqw9ycz7zq4a
FileSize: 128
NarHash: sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw
NarSize: 120
References:\x20
Sig: test-1:UTNKdj28XMdhVHeOMkTg+RNzrVPx8OTp6D9xxmlW63vuZIlOxNWoCsR7Jqtrnxr6L3Ij8EYlcwpjuzKEuS5VDw==
CA: fixed:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw
"""
REAL_KEY = CacheKey.parse("test-1:jKRwGLrIdILsmLkgy6BJu0S9swGx5IGAgtiDHp/2Uv0=")

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = CacheKey("ours-1", KEY.public_key().public_bytes_raw())
A, B = f"{'a' * 32}-a", f"{'b' * 32}-b"
NAR = Digest.of(b"nar")


def parse(data: bytes) -> NarInfo:
    """As the worker takes it apart, and mvm looks at it."""
    try:
        return narinfo.parse_narinfo(documents.narinfo(data))
    except documents.BadDocumentError as error:
        raise MalformedError(str(error)) from error


def text(**changes: str | None) -> bytes:
    """A narinfo with two references; a change of None takes the field out."""
    fields: dict[str, str] = {
        "StorePath": f"/nix/store/{'0' * 32}-it",
        "URL": "nar/x.nar.xz",
        "Compression": "xz",
        "NarHash": f"sha256:{NAR.nix32}",
        "NarSize": "120",
        "References": f"{B} {A}",
    }
    pairs = {**fields, **changes}.items()
    return "".join(f"{name}: {value}\n" for name, value in pairs if value is not None).encode()


def signed(data: bytes, name: str = "ours-1", key: Ed25519PrivateKey = KEY) -> bytes:
    signature = base64.b64encode(key.sign(parse(data).fingerprint)).decode()
    return data + f"Sig: {name}:{signature}\n".encode()


def test_a_real_one() -> None:
    info = parse(REAL)
    assert info.path == StorePath.parse("/nix/store/gwina1sjk7g95wq6fxc6b7s1hza53h74-hello")
    assert (info.compression, info.size, info.references) == (Compression.XZ, 120, ())
    assert vouched(info, [REAL_KEY]) is REAL_KEY


def test_what_is_signed() -> None:
    info = parse(text())
    path = f"/nix/store/{'0' * 32}-it"
    assert info.fingerprint == f"1;{path};sha256:{NAR.nix32};120;/nix/store/{A},/nix/store/{B}".encode()


def test_a_digest_may_be_written_as_sri_and_is_signed_in_base_32() -> None:
    assert parse(text(NarHash=NAR.sri)).fingerprint == parse(text()).fingerprint


def test_without_compression_it_is_bzip2_as_in_nix() -> None:
    assert parse(text(Compression=None)).compression is Compression.BZIP2


def test_what_is_not_signed_is_not_read() -> None:
    strange = text(Deriver="anything goes", System="?", FileHash="x", FileSize="-1", CA="fixed:lies", Later="1")
    assert parse(strange) == parse(text())


MALFORMED = {
    "nothing": b"",
    "not ASCII": text(System="\u00e9"),
    "no colon": text() + b"odd\n",
    "a carriage return": text().replace(b"\n", b"\r\n"),
    "an empty line": text() + b"\n",
    "no path": text(StorePath=None),
    "no hash": text(NarHash=None),
    "no size": text(NarSize=None),
    "no references": text(References=None),
    "no URL": text(URL=None),
    "two paths": text() + text(),
    "two hashes": text() + f"NarHash: {NAR.sri}\n".encode(),
    "a path elsewhere": text(StorePath=f"/store/{'0' * 32}-it"),
    "a bare path": text(StorePath=f"{'0' * 32}-it"),
    "a path with more behind it": text(StorePath=f"/nix/store/{'0' * 32}-it/bin"),
    "an MD5": text(NarHash="md5:" + "0" * 26),
    "a short hash": text(NarHash="sha256:" + "0" * 51),
    "a hash with letters that Nix has not": text(NarHash="sha256:" + "e" * 52),
    "a size of nothing": text(NarSize="0"),
    "a negative size": text(NarSize="-1"),
    "a size in hexadecimal": text(NarSize="0x10"),
    "a reference with a slash": text(References=f"/nix/store/{A}"),
    "a reference twice": text(References=f"{A} {A}"),
    "two spaces": text(References=f"{A}  {B}"),
    "packed with nothing known": text(Compression="rot13"),
    "a signature without a name": text(Sig=f":{base64.b64encode(bytes(64)).decode()}"),
    "a long signature": text(Sig=f"a:{base64.b64encode(bytes(65)).decode()}"),
    "a short signature": text(Sig="a:AAAA"),
    "a signature that is not base64": text(Sig="a:!!!"),
    **{
        f"the address {url}": text(URL=url)
        for url in (
            "https://other.example/x.nar",
            "//other.example/x.nar",
            "/x.nar",
            "../x.nar",
            "nar/../../x.nar",
            "nar/./x.nar",
            "nar//x.nar",
            "nar/x.nar?hash=1",
            "nar/x.nar#1",
            "nar/%2e%2e/x.nar",
            "nar\\x.nar",
            "me@other.example",
            "file:x.nar",
            "nar/x nar",
            "",
        )
    },
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed(case: str) -> None:
    with pytest.raises(MalformedError):
        parse(MALFORMED[case])


def many(count: int) -> str:
    return " ".join(f"{number:0>32}-it" for number in range(count))


SIGNATURE = b"Sig: a:%s\n" % base64.b64encode(bytes(64))
#: The most of each, and one more.
BOUNDS = {
    "characters of an address": (text(URL="x" * 1024), text(URL="x" * 1025)),
    "digits of a size": (text(NarSize="9" * 18), text(NarSize="9" * 19)),
    "digests": (
        text(NarHash=f"sha256:{Digest('ff' * 32).nix32}"),
        text(NarHash=f"sha256:2{Digest('ff' * 32).nix32[1:]}"),
    ),
    "references": (text(References=many(10_000)), text(References=many(10_001))),
    "signatures": (text() + SIGNATURE * 64, text() + SIGNATURE * 65),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_the_most_is_read_and_no_more(case: str) -> None:
    most, more = BOUNDS[case]
    parse(most)
    with pytest.raises(MalformedError):
        parse(more)


def test_the_largest_digest_is_read_as_it_is() -> None:
    assert parse(BOUNDS["digests"][0]).nar == Digest("ff" * 32)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(MalformedError) as error:
        parse(text(NarSize="x", URL="..", NarHash="y"))
    assert len(error.value.problems) == 3


def test_the_first_good_signature_of_a_listed_key_counts() -> None:
    stranger = Ed25519PrivateKey.generate()
    data = signed(signed(signed(text(), "stranger-1", stranger), "ours-1", stranger))
    assert vouched(parse(data), [CacheKey("unused-1", bytes(32)), TRUSTED]) is TRUSTED


def other(**changes: str) -> Callable[[], NarInfo]:
    """Signed, and then changed."""
    signature = signed(text()).splitlines()[-1].removeprefix(b"Sig: ").decode()
    return lambda: parse(text(**changes, Sig=signature))


UNTRUSTED: dict[str, Callable[[], NarInfo]] = {
    "unsigned": lambda: parse(text()),
    "a CA field instead": lambda: parse(text(CA=f"fixed:r:sha256:{NAR.nix32}")),
    "by another key of the same name": lambda: parse(signed(text(), key=Ed25519PrivateKey.generate())),
    "by a listed key under another name": lambda: parse(signed(text(), "stranger-1")),
    "another path": other(StorePath=f"/nix/store/{'1' * 32}-it"),
    "another name": other(StorePath=f"/nix/store/{'0' * 32}-at"),
    "another archive": other(NarHash=Digest.of(b"other").sri),
    "another size": other(NarSize="121"),
    "one reference fewer": other(References=A),
    "other references": other(References=f"{A} {'c' * 32}-c"),
}


@pytest.mark.parametrize("case", UNTRUSTED)
def test_who_is_not_believed(case: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        vouched(UNTRUSTED[case](), [TRUSTED])
    assert refusal.value.codes == (ReasonCode.CACHE_SIGNATURE,)


def test_a_refusal_names_who_has_signed() -> None:
    stranger = signed(signed(text(), "stranger-1"), "stranger-2")
    for data, names in ((text(), "no key"), (stranger + stranger.splitlines()[-1], "stranger-1, stranger-2")):
        with pytest.raises(RefusedError, match=f"it says it was signed by {names}\\. "):
            vouched(parse(data), [TRUSTED])


def test_the_address_is_not_covered_and_need_not_be() -> None:
    assert vouched(other(URL="nar/elsewhere.nar", Compression="none")(), [TRUSTED]) is TRUSTED


def test_a_name_without_a_value() -> None:
    """The worker that takes the text apart is not trusted to have written pairs."""
    with pytest.raises(MalformedError, match="a field without a value"):
        narinfo.parse_narinfo(("StorePath", f"/nix/store/{'0' * 32}-it", "URL"))


def test_a_compression_that_is_not_supported_is_named_with_those_that_are() -> None:
    with pytest.raises(MalformedError, match="Compression: 'zstd' is not supported; none, xz, bzip2, gzip are"):
        parse(text(Compression="zstd"))
