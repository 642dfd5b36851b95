"""Indexes and manifests: read by their exact types, and refused with every reason at once."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.oci import descriptors
from mvmnix.builder.oci.descriptors import Index, Manifest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from tests.unit.builder.oci.images import (
    DOCKER,
    INDEX,
    LAYER,
    MANIFEST,
    OCI,
    Document,
    Memory,
    descriptor,
    pushed,
    text,
)

IMAGE = pushed(b"one", b"two")


def parse(data: bytes, what: str) -> Index | Manifest:
    return descriptors.parse(data, what, Memory().decode)


def manifest(**changes: object) -> bytes:
    return text(IMAGE.manifest | changes)


def layer(**changes: object) -> Document:
    return descriptor(b"x", LAYER) | changes


def test_a_manifest() -> None:
    found = parse(manifest(annotations={"a": "b"}), "it")
    assert isinstance(found, Manifest)
    assert [one.gzip for one in found.layers] == [True, True]
    assert str(found.config.digest) == IMAGE.manifest["config"]["digest"]
    plain = parse(manifest(layers=[layer(mediaType=f"{OCI}layer.v1.tar")]), "it")
    assert isinstance(plain, Manifest)
    assert [one.gzip for one in plain.layers] == [False]


@pytest.mark.parametrize("name", ["annotations", "data", "urls", "artifactType", "platform"])
def test_what_a_descriptor_may_say_besides(name: str) -> None:
    """Of its configuration, from which nothing but digest and size is taken."""
    config = IMAGE.manifest["config"]
    assert parse(manifest(config=config | {name: {}}), "it") == parse(manifest(config=config), "it")


def test_dockers_types() -> None:
    document = manifest(
        mediaType=f"{DOCKER}distribution.manifest.v2+json",
        config=IMAGE.manifest["config"] | {"mediaType": f"{DOCKER}container.image.v1+json"},
        layers=[layer(mediaType=f"{DOCKER}image.rootfs.diff.tar.gzip")],
    )
    assert isinstance(parse(document, "it"), Manifest)
    listing = json.loads(IMAGE.index()) | {"mediaType": f"{DOCKER}distribution.manifest.list.v2+json"}
    assert isinstance(parse(text(listing), "it"), Index)


def test_without_a_media_type_its_fields_say_what_it_is() -> None:
    document = {name: value for name, value in IMAGE.manifest.items() if name != "mediaType"}
    assert isinstance(parse(text(document), "it"), Manifest)


def other(platform: Document, media_type: str = MANIFEST, data: bytes = b"other") -> Document:
    return descriptor(data, media_type, platform=platform)


def test_an_index_chooses_by_platform() -> None:
    found = parse(
        IMAGE.index(
            other({"os": "linux", "architecture": "arm64", "variant": "v8"}),
            other({"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["win32k"]}),
            other({"os": "unknown", "architecture": "unknown"}),
            other({"os": "linux", "architecture": "amd64", "variant": "v3"}),
            other({"os": "linux", "architecture": "amd64"}, INDEX),
            descriptor(b"no platform", MANIFEST),
        ),
        "it",
    )
    assert isinstance(found, Index)
    assert found.choose("linux/amd64", "it").digest.hex in IMAGE.index().decode()


def test_an_index_without_our_platform() -> None:
    found = parse(IMAGE.index(other({"os": "linux", "architecture": "arm64"}), platform="linux/riscv64"), "it")
    assert isinstance(found, Index)
    with pytest.raises(RefusedError, match="linux/arm64, linux/riscv64") as caught:
        found.choose("linux/amd64", "it")
    assert caught.value.codes == (Code.OCI_UNSUPPORTED,)
    with pytest.raises(RefusedError, match="no image for linux/amd64; it has: none"):
        Index(()).choose("linux/amd64", "it")


OTHER = descriptor(b"other", LAYER)
MALFORMED: dict[str, bytes] = {
    "no JSON": b"{",
    "no object": b"[]",
    "too large": text(IMAGE.manifest).ljust((4 << 20) + 1),
    "a key twice": b'{"schemaVersion": 2, "schemaVersion": 2}',
    "neither": text({"schemaVersion": 2}),
    "both": manifest(manifests=[]),
    "an index with layers": text({"schemaVersion": 2, "manifests": [], "layers": []}),
    "the first schema": manifest(schemaVersion=1),
    "another type": manifest(mediaType="application/json"),
    "an index's type": manifest(mediaType=INDEX),
    "an unknown field": manifest(fsLayers=[]),
    "no configuration": text({name: value for name, value in IMAGE.manifest.items() if name != "config"}),
    "another digest": manifest(layers=[layer(digest="sha512:" + "0" * 128)]),
    "a digest of no algorithm": manifest(layers=[layer(digest="0" * 64)]),
    "a short digest": manifest(layers=[layer(digest="sha256:00")]),
    "capitals": manifest(layers=[layer(digest=layer()["digest"].upper())]),
    "a negative size": manifest(layers=[layer(size=-1)]),
    "a size of nothing": manifest(layers=[layer(size=0)]),
    "a size that not every reader keeps": manifest(layers=[layer(size=2**53)]),
    "no size": manifest(layers=[layer(size=None)]),
    "a size that is text": manifest(layers=[layer(size="1")]),
    "a fraction": manifest(layers=[layer(size=1.5)]),
    "an unknown field of a layer": manifest(layers=[layer(offset=1)]),
    "a later schema": manifest(schemaVersion=3),
    "too many layers": manifest(layers=[layer()] * 128),
    "too many images": text(json.loads(IMAGE.index()) | {"manifests": [layer()] * 1025}),
    "layers that are none": manifest(layers="all"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(data, "it")
    assert set(caught.value.codes) == {Code.OCI_MALFORMED}


@pytest.mark.parametrize("case", ["neither", "both", "an index with layers"])
def test_which_of_the_two_it_is_is_said_once(case: str) -> None:
    with pytest.raises(RefusedError, match="neither an index nor a manifest, or both"):
        parse(MALFORMED[case], "it")


UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "zstd": (manifest(layers=[layer(mediaType=f"{OCI}layer.v1.tar+zstd")]), "zstd"),
    "a layer that is not to be distributed": (
        manifest(layers=[layer(mediaType=f"{OCI}layer.nondistributable.v1.tar+gzip")]),
        "nondistributable",
    ),
    "Docker's foreign layer": (
        manifest(layers=[layer(mediaType=f"{DOCKER}image.rootfs.foreign.diff.tar.gzip")]),
        "foreign",
    ),
    "a layer elsewhere": (manifest(layers=[layer(urls=["https://elsewhere.example/x"])]), "lies elsewhere"),
    "an encrypted layer": (manifest(layers=[layer(mediaType=f"{LAYER}+encrypted")]), "encrypted"),
    "no layers": (manifest(layers=[]), "no layers"),
    "too large": (manifest(layers=[layer(size=(2 << 30) + 1)]), "larger than"),
    "too large together": (manifest(layers=[layer(size=2 << 30), OTHER | {"size": 1}]), "larger than 2147483648"),
    "an artifact": (manifest(artifactType="application/vnd.example+json"), "artifact"),
    "a chart": (
        manifest(config=IMAGE.manifest["config"] | {"mediaType": "application/vnd.example.chart+json"}),
        "not an image",
    ),
    "a large configuration": (
        manifest(config=IMAGE.manifest["config"] | {"size": (4 << 20) + 1}),
        "configuration is larger",
    ),
}


@pytest.mark.parametrize(("data", "why"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported(data: bytes, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        parse(data, "it")
    assert set(caught.value.codes) == {Code.OCI_UNSUPPORTED}


def test_all_reasons_at_once() -> None:
    bad = [layer(mediaType=f"{OCI}layer.v1.tar+zstd"), layer(urls=["https://elsewhere.example/x"])]
    with pytest.raises(RefusedError) as caught:
        parse(manifest(layers=bad, artifactType="x"), "it")
    assert len(caught.value.reasons) == 3


def test_a_layer_that_comes_twice_counts_once() -> None:
    found = parse(manifest(layers=[layer(size=2 << 30)] * 2), "it")
    assert isinstance(found, Manifest)


def test_the_most_of_each() -> None:
    assert isinstance(parse(text(json.loads(IMAGE.index()) | {"manifests": [layer()] * 1024}), "it"), Index)
    found = parse(
        manifest(
            config=IMAGE.manifest["config"] | {"size": 4 << 20},
            layers=[descriptor(b"%d" % number, LAYER) | {"size": 1} for number in range(126)]
            + [OTHER | {"size": (2 << 30) - 126}],
        ).ljust(4 << 20),
        "it",
    )
    assert isinstance(found, Manifest)
    assert (len(found.layers), found.config.size) == (127, 4 << 20)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["schemaVersion", "mediaType", "config", "layers", "manifests", "platform", "digest", "size"]
                ),
                inner,
            )
        ),
    )
)
def test_whatever_it_says(value: object) -> None:
    parsers: list[Callable[[], object]] = [lambda: parse(json.dumps(value).encode(), "it")]
    for attempt in parsers:
        with pytest.raises(RefusedError):
            attempt()
