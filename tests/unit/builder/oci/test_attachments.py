"""What is attached to an image: where it is looked for, what is read of it, and what a registry can't make of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Response
from mvmnix.builder.fetch.resumable import DownloadError, TooLargeError
from mvmnix.builder.oci import attachments, registry
from mvmnix.builder.oci.attachments import Attachment, AttachmentKind, find_attachments
from mvmnix.builder.oci.descriptors import LIMIT
from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode
from mvmnix.formats.strict import parse_json
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from tests.unit.builder.oci.images import CONFIG, INDEX, MANIFEST, Document, descriptor, name_of, text

IMAGE = OciRef("registry.test", "team/app", Digest.of(b"an image"))
TAG = f"sha256-{IMAGE.digest.hex}"
REFERRERS = f"referrers/{IMAGE.digest}"
ALLOWED = Allowlist(frozenset({IMAGE.host, "other.test"}))
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE, SIGNED = "application/vnd.dsse.envelope.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass
class Paths:
    """A repository that is a dictionary of paths, and of links to next pages; notes what it is asked for."""

    things: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 404
    links: dict[str, str] = field(default_factory=dict)

    def get(self, reference: OciRef, path: str, write: Callable[[bytes], object], limit: int) -> Response:
        assert (reference.host, reference.name) == (IMAGE.host, IMAGE.name)
        self.asked.append(path)
        if path not in self.things:
            raise DownloadError("no", hint="", status=self.status)
        data = self.things[path]
        write(data[:limit])
        if len(data) > limit:
            raise TooLargeError(Reason(ReasonCode.FETCH_LIMIT, path, "it has more bytes", ""))
        return Response(200, {}, address(path), len(data))

    def page_after(self, reference: OciRef, path: str, answer: Response) -> str:
        if path not in self.links:
            return ""
        return registry.page_after(path, address(path), answer.url, self.links[path], ALLOWED)

    def decode(self, data: bytes) -> object:
        return parse_json(data)

    def hold(self, kind: str, *data: bytes) -> None:
        self.things |= {f"{kind}/{name_of(each)}": each for each in data}


def address(path: str) -> str:
    return f"https://{IMAGE.host}/v2/{IMAGE.name}/{path}"


def manifest(*layers: Document, **more: object) -> Document:
    config = descriptor(b"{}", CONFIG)
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers), **more}


def listed(*manifests: Document) -> bytes:
    return text({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)})


def referring(*data: bytes, kind: str = BUNDLE, **more: object) -> tuple[Paths, Document]:
    """A repository whose referrers API lists one manifest with these layers; and that manifest."""
    subject = descriptor(b"an image", MANIFEST)
    document = manifest(
        *(descriptor(each, kind) for each in data), artifactType=BUNDLE, **({"subject": subject} | more)
    )
    paths = Paths()
    paths.hold("blobs", *data)
    listing(paths, document)
    return paths, document


def listing(paths: Paths, document: Document, where: str = REFERRERS, **more: object) -> None:
    paths.hold("manifests", text(document))
    paths.things[where] = listed(descriptor(text(document), MANIFEST, **({"artifactType": BUNDLE} | more)))


def found(paths: Paths) -> list[Attachment]:
    return list(find_attachments(IMAGE, paths))


def problems(paths: Paths) -> list[str]:
    """What is said of what can't be read; nothing of it is handed on."""
    every = found(paths)
    assert all(it.data == b"" for it in every if it.problem)
    return [it.problem for it in every if it.problem]


def test_the_referrers_api() -> None:
    paths, _ = referring(b"one", b"two")
    assert [(it.kind, it.data) for it in found(paths)] == [
        (AttachmentKind.BUNDLE, b"one"),
        (AttachmentKind.BUNDLE, b"two"),
    ]
    assert f"manifests/{TAG}" not in paths.asked


def test_a_registry_without_that_api() -> None:
    """Clients keep the list under a tag; and cosign writes there the type of the configuration."""
    paths, document = referring(b"one")
    del paths.things[REFERRERS]
    assert found(paths) == []
    listing(paths, document, f"manifests/{TAG}", artifactType="application/vnd.oci.empty.v1+json")
    assert [it.data for it in found(paths)] == [b"one"]


@pytest.mark.parametrize("suffix", ["att", "sig"])
@pytest.mark.parametrize(
    ("media_type", "kind"), [(ENVELOPE, AttachmentKind.ENVELOPE), (SIGNED, AttachmentKind.SIGNATURE)]
)
def test_cosign_s_tags(suffix: str, media_type: str, kind: AttachmentKind) -> None:
    paths, said = Paths(), {"dev.cosignproject.cosign/signature": "AA=="}
    layers = [descriptor(b"one", media_type, annotations=said), descriptor(b"two", "text/plain")]
    paths.things[f"manifests/{TAG}.{suffix}"] = text(manifest(*layers))
    paths.hold("blobs", b"one", b"two")
    assert found(paths) == [Attachment(kind, b"one", said)]


def test_a_layer_that_comes_twice_is_asked_for_once() -> None:
    paths, said = Paths(), [{"a": "1"}, {"a": "2"}]
    paths.things[f"manifests/{TAG}.sig"] = text(manifest(*(descriptor(b"x", SIGNED, annotations=it) for it in said)))
    paths.hold("blobs", b"x")
    assert [it.annotations for it in found(paths)] == said
    assert paths.asked.count(f"blobs/{name_of(b'x')}") == 1


# Pages


def paged(count: int, *, links: int | None = None) -> Paths:
    """A list of so many pages, each of one manifest with one bundle, and of so many links."""
    paths = Paths()
    for number in range(count):
        data = b"%d" % number
        document = text(manifest(descriptor(data, BUNDLE)))
        paths.hold("blobs", data)
        paths.hold("manifests", document)
        paths.things[page(number)] = listed(descriptor(document, MANIFEST, artifactType=BUNDLE))
    paths.links = {page(number): f"?last={number + 1}" for number in range(count - 1 if links is None else links)}
    return paths


def page(number: int) -> str:
    return f"{REFERRERS}?last={number}" if number else REFERRERS


def test_pages() -> None:
    """Of the referrers API alone; each is asked for once, in turn, behind what the one before it names."""
    paths = paged(3)
    assert [it.data for it in found(paths)] == [b"0", b"1", b"2"]
    assert [it for it in paths.asked if it.startswith("referrers/")] == [page(0), page(1), page(2)]
    assert paths.asked.index(page(1)) > paths.asked.index(f"blobs/{name_of(b'0')}")
    tagged = Paths(things=paths.things | {f"manifests/{TAG}": paths.things.pop(page(0))})
    tagged.links = {f"manifests/{TAG}": "?last=1"}
    assert [it.data for it in found(tagged)] == [b"0"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (f"https://other.test/v2/{IMAGE.name}/{REFERRERS}?last=1", "elsewhere: https://other.test/"),
        (f"/v2/team/other/{REFERRERS}?last=1", "elsewhere"),
        (f"/v2/{IMAGE.name}/referrers/{Digest.of(b'another')}?last=1", "elsewhere"),
        ("https://unlisted.test/", "can't be asked for: https://unlisted.test/"),
        (f"?last=1#{'x' * 5000}", "can't be asked for"),
        ("", "leads back"),
    ],
)
def test_a_page_that_is_not_asked_for(target: str, why: str) -> None:
    paths = paged(2)
    paths.links[REFERRERS] = target
    every = found(paths)
    assert [(it.data, why in it.problem) for it in every] == [(b"0", False), (b"", True)]
    assert [it for it in paths.asked if it.startswith("referrers/")] == [REFERRERS]
    assert f"manifests/{TAG}.sig" in paths.asked


def test_pages_in_a_circle() -> None:
    paths = paged(3)
    paths.links[page(2)] = "?last=1"
    assert [(it.data, "leads back" in it.problem) for it in found(paths)][2:] == [(b"2", False), (b"", True)]
    assert paths.asked.count(page(1)) == 1


def test_a_page_that_is_not_there() -> None:
    assert ["breaks off" in it.problem for it in found(paged(2, links=2))] == [False, False, True]


def test_a_page_that_is_none() -> None:
    """What was read before it counts."""
    paths = paged(3)
    paths.things[page(1)] = b"[]"
    assert [(it.data, "can't be read" in it.problem) for it in found(paths)] == [(b"0", False), (b"", True)]


def test_how_many_pages_there_may_be() -> None:
    empty = listed()
    for count, said in ((attachments.MOST_PAGES, []), (attachments.MOST_PAGES + 1, [True])):
        paths = paged(count)
        paths.things |= {page(number): empty for number in range(count)}
        assert ["more than 128 pages" in it for it in problems(paths)] == said
        assert len([it for it in paths.asked if it.startswith("referrers/")]) == attachments.MOST_PAGES


def test_what_else_refers_to_an_image_is_not_asked_for() -> None:
    paths, document = referring(b"one")
    listing(paths, document, artifactType="application/spdx+json")
    assert found(paths) == []
    assert not any(path.startswith("manifests/sha256:") for path in paths.asked)


@pytest.mark.parametrize("status", [401, 403, 429, 500, None])
def test_a_registry_that_does_not_answer_is_no_verdict(status: Any) -> None:
    with pytest.raises(DownloadError):
        found(Paths(status=status))


def test_what_is_listed_and_not_there() -> None:
    paths, document = referring(b"one")
    del paths.things[f"blobs/{name_of(b'one')}"]
    assert ["does not have it" in it for it in problems(paths)] == [True]
    del paths.things[f"manifests/{name_of(text(document))}"]
    assert ["does not have it" in it for it in problems(paths)] == [True]


def test_other_bytes_than_those_that_are_named() -> None:
    for kind, index in (("blobs", 0), ("manifests", 1)):
        paths, document = referring(b"one")
        named = [b"one", text(document)][index]
        paths.things[f"{kind}/{name_of(named)}"] = named[:-1] + b"!"
        assert ["hashes to" in it for it in problems(paths)] == [True]


def test_another_image_s() -> None:
    paths, _ = referring(b"one", subject=descriptor(b"another image", MANIFEST))
    assert ["another image" in it for it in problems(paths)] == [True]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        text({"schemaVersion": 1, "manifests": []}),
        text({"schemaVersion": 2, "mediaType": "text/plain", "manifests": []}),
        text({"schemaVersion": 2}),
        text({"schemaVersion": 2, "manifests": {}}),
        listed(descriptor(b"x", MANIFEST) | {"size": 1.5}),
    ],
)
def test_a_list_that_is_none_takes_nothing_from_the_others(data: bytes) -> None:
    paths = Paths()
    paths.things[f"manifests/{TAG}.att"] = text(manifest(descriptor(b"one", ENVELOPE)))
    paths.hold("blobs", b"one")
    paths.things[REFERRERS] = data
    assert ["can't be read" in it for it in problems(paths)] == [True]
    assert [it.data for it in found(paths)] == [b"", b"one"]


@pytest.mark.parametrize(
    "entry",
    [
        1,
        {},
        {"mediaType": MANIFEST},
        descriptor(b"x", MANIFEST) | {"size": -1},
        descriptor(b"x", MANIFEST) | {"digest": "../../x"},
        descriptor(b"x", MANIFEST, artifactType=1),
        descriptor(b"x", MANIFEST, artifactType="of several words"),
        descriptor(b"x", MANIFEST, artifactType="a" * 256),
        descriptor(b"x", MANIFEST, annotations={"a": 1}),
        descriptor(b"x", MANIFEST, annotations={"a" * 2000 + str(number): 1 for number in range(100)}),
    ],
)
def test_an_entry_that_is_none_takes_nothing_from_the_others(entry: Document) -> None:
    """Registries write into the list what a party has attached."""
    paths, document = referring(b"one")
    paths.things[REFERRERS] = listed(entry, descriptor(text(document), MANIFEST, artifactType=BUNDLE))
    said = found(paths)
    assert [(it.data, bool(it.problem)) for it in said] == [(b"", True), (b"one", False)]
    assert "an entry of the list of referrers can't be read: list.manifests[0]" in said[0].problem
    assert len(said[0].problem) <= 1024


@pytest.mark.parametrize(
    "document",
    [
        manifest() | {"schemaVersion": 1},
        manifest() | {"mediaType": INDEX},
        manifest() | {"layers": 1},
        manifest({"mediaType": BUNDLE}),
        manifest(subject=1),
        manifest(subject={}),
        {"schemaVersion": 2},
    ],
)
def test_a_manifest_that_is_none(document: Document) -> None:
    paths = Paths()
    listing(paths, document)
    assert ["can't be read" in it for it in problems(paths)] == [True]


@pytest.mark.parametrize("digest", ["sha512:" + "0" * 128, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:0"])
def test_by_sha256_alone(digest: str) -> None:
    paths = Paths()
    paths.things[REFERRERS] = listed(descriptor(b"x", MANIFEST) | {"digest": digest})
    assert ["not a SHA-256 digest" in it for it in problems(paths)] == [True]
    assert not any(path.startswith("manifests/sha256:") for path in paths.asked)


# Bounds


def test_how_large_each_may_be() -> None:
    paths, document = referring(b"one")
    document["layers"][0]["size"] = BUNDLE_LIMIT + 1
    listing(paths, document)
    assert ["larger than" in it for it in problems(paths)] == [True]
    paths.things[REFERRERS] = listed(descriptor(b"x", MANIFEST) | {"size": LIMIT + 1})
    assert ["larger than" in it for it in problems(paths)] == [True]


@pytest.mark.parametrize("announced", [0, 1, 2])
def test_more_bytes_than_announced_take_nothing_from_the_others(announced: int) -> None:
    """Whoever attaches something says how large it is: a layer in its manifest, a manifest in a list under the tag."""
    paths, document = referring(b"one", b"two")
    document["layers"][0]["size"] = announced
    listing(paths, document)
    assert [(it.data, "more bytes" in it.problem) for it in found(paths)] == [(b"", True), (b"two", False)]
    good = descriptor(text(document), MANIFEST)
    paths.things[REFERRERS] = listed(good | {"size": announced}, good)
    assert [(it.data, "more bytes" in it.problem) for it in found(paths)][:1] == [(b"", True)]
    assert found(paths)[-1].data == b"two"


@pytest.mark.parametrize("where", [REFERRERS, f"manifests/{TAG}.att", f"manifests/{TAG}.sig"])
def test_how_large_a_list_or_what_a_tag_names_may_be(where: str) -> None:
    for size, said in ((LIMIT, []), (LIMIT + 1, [True])):
        paths = Paths()
        for each in (REFERRERS, f"manifests/{TAG}.att", f"manifests/{TAG}.sig"):
            paths.things[each] = listed() if each == REFERRERS else text(manifest(descriptor(b"one", ENVELOPE)))
        paths.hold("blobs", b"one")
        paths.things[where] = paths.things[where].ljust(size)
        assert [f"{where} can't be read: it has more bytes" in it for it in problems(paths)] == said
        assert [it.data for it in found(paths) if it.data] == [b"one"] * (1 if said and where != REFERRERS else 2)


def test_how_much_all_of_it_may_be() -> None:
    """What fits is read, behind what doesn't too; what isn't there takes no room."""
    paths, document = referring(b"one", b"gone", b"two", b"three", b"4")
    del paths.things[f"blobs/{name_of(b'gone')}"]
    room = len(paths.things[REFERRERS]) + len(text(document)) + 7
    every = list(attachments._Search(IMAGE, paths, left=room).run())
    assert [it.data for it in every] == [b"one", b"", b"two", b"", b"4"]
    assert ["does not have it" in it.problem for it in every] == [False, True, False, False, False]
    assert ["all that is attached" in it.problem for it in every] == [False, False, False, True, False]
    assert f"blobs/{name_of(b'three')}" not in paths.asked
    assert attachments._Search(IMAGE, paths).left == attachments.MOST_BYTES


def test_no_more_than_that_is_read_of_lists_and_of_what_tags_name() -> None:
    paths = paged(3)
    room = len(paths.things[page(0)]) + len(text(manifest(descriptor(b"0", BUNDLE)))) + 1 + 10
    search = attachments._Search(IMAGE, paths, left=room)
    assert [(it.data, "more bytes" in it.problem) for it in search.run()] == [(b"0", False), (b"", True)]
    assert search.left == 0


def test_how_many_there_may_be() -> None:
    paths, document = Paths(), manifest()
    paths.hold("manifests", text(document))
    for count, said in ((attachments.MOST_MANIFESTS, 0), (attachments.MOST_MANIFESTS + 1, 1)):
        paths.things[REFERRERS] = listed(*[descriptor(text(document), MANIFEST)] * count)
        assert len(problems(paths)) == said
        paths.things[f"manifests/{TAG}.sig"] = text(manifest(descriptor(b"signed", SIGNED)))
        paths.hold("blobs", b"signed")
        assert [it.data for it in found(paths)][-1] == b"signed"
    broken = listed(*[{}] * (attachments.MOST_MANIFESTS + 1))
    assert len(found(Paths({REFERRERS: broken}))) == attachments.MOST_MANIFESTS + 1
    assert "more than 128 manifests" in found(Paths({REFERRERS: broken}))[-1].problem
    paths = Paths()
    paths.hold("blobs", b"x")
    for count, said in ((attachments.MOST_LAYERS, 0), (attachments.MOST_LAYERS + 1, 1)):
        paths.things[f"manifests/{TAG}.att"] = text(manifest(*[descriptor(b"x", ENVELOPE)] * count))
        every = found(paths)
        assert len([it for it in every if it.problem]) == said
        assert len([it for it in every if not it.problem]) == attachments.MOST_LAYERS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from([BUNDLE, MANIFEST, INDEX, name_of(b"x"), ""]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["schemaVersion", "manifests", "layers", "mediaType", "digest", "size", "annotations", "subject"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_it_says(value: object) -> None:
    """A registry's words are attachments, problems, or a registry that does not answer."""
    paths = Paths()
    for path in (REFERRERS, f"manifests/{TAG}.att", f"manifests/{TAG}.sig"):
        paths.things[path] = text(value)  # type: ignore[arg-type]
    for it in found(paths):
        assert bool(it.problem) != bool(it.data) or it.data == b""
