"""What is attached to an image: where it is looked for, what is read of it, and what a registry can't make of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.fetch import DownloadError
from mvmnix.builder.oci import attachments
from mvmnix.builder.oci.attachments import Attachment, AttachmentKind, find_attachments
from mvmnix.builder.oci.descriptors import LIMIT
from mvmnix.builder.oci.reference import OciRef
from mvmnix.model import Digest
from mvmnix.provenance.bundle import BUNDLE_LIMIT
from mvmnix.strict import parse_json
from tests.unit.builder.oci.images import CONFIG, INDEX, MANIFEST, Document, descriptor, name_of, text

IMAGE = OciRef("registry.test", "team/app", Digest.of(b"an image"))
TAG = f"sha256-{IMAGE.digest.hex}"
REFERRERS = f"referrers/{IMAGE.digest}"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE, SIGNED = "application/vnd.dsse.envelope.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass
class Paths:
    """A repository that is a dictionary of paths; notes what it is asked for."""

    things: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 404

    def get(self, reference: OciRef, path: str, write: Callable[[bytes], object], limit: int) -> None:
        assert (reference.host, reference.name) == (IMAGE.host, IMAGE.name)
        self.asked.append(path)
        if path not in self.things:
            raise DownloadError("no", hint="", status=self.status)
        assert len(self.things[path]) <= limit
        write(self.things[path])

    def decode(self, data: bytes) -> object:
        return parse_json(data)

    def hold(self, kind: str, *data: bytes) -> None:
        self.things |= {f"{kind}/{name_of(each)}": each for each in data}


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
        text({"schemaVersion": 2, "manifests": [1]}),
        listed({"mediaType": MANIFEST}),
        listed(descriptor(b"x", MANIFEST) | {"size": -1}),
        listed(descriptor(b"x", MANIFEST) | {"size": 1.5}),
        listed(descriptor(b"x", MANIFEST) | {"digest": "../../x"}),
        listed(descriptor(b"x", MANIFEST, artifactType=1)),
        listed(descriptor(b"x", MANIFEST, annotations={"a": 1})),
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


def test_how_much_all_of_it_may_be() -> None:
    paths, document = referring(b"one", b"two", b"three")
    search = attachments._Search(IMAGE, paths, left=len(text(document)) + 6)
    assert [(it.data, bool(it.problem)) for it in search.run()] == [(b"one", False), (b"two", False), (b"", True)]
    assert attachments._Search(IMAGE, paths).left == attachments.MOST_BYTES


def test_how_many_there_may_be() -> None:
    paths, document = Paths(), manifest()
    paths.hold("manifests", text(document))
    for count, said in ((attachments.MOST_MANIFESTS, 0), (attachments.MOST_MANIFESTS + 1, 1)):
        paths.things[REFERRERS] = listed(*[descriptor(text(document), MANIFEST)] * count)
        assert len(problems(paths)) == said
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
