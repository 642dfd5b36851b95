"""What names an image: a digest, and no tag, whatever else is typed."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError

PIN = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("registry.example", "app"),
        ("registry.example:5000", "team/app"),
        ("localhost", "a"),
        ("127.0.0.1:5000", "a/b/c__d.e-f--g"),
        ("[::1]:5000", "0"),
    ],
)
def test_read(host: str, name: str) -> None:
    text = f"oci://{host}/{name}@{PIN}"
    found = OciRef.parse(text)
    assert (found.host, found.name, str(found.digest), str(found)) == (host, name, PIN, text)
    assert found.source.uri == text
    assert found.source.store_path.name == f"oci-{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("oci://registry.example/app", "oci://registry.example/app@sha256:…"),
        ("oci://registry.example/app:latest", "oci://registry.example/app@sha256:…"),
        ("oci://registry.example:5000/team/app:1.2", "oci://registry.example:5000/team/app@sha256:…"),
        (f"oci://registry.example/app:1.2@{PIN}", f"oci://registry.example/app@{PIN}"),
    ],
)
def test_a_tag_is_refused(text: str, pinned: str) -> None:
    with pytest.raises(RefusedError) as caught:
        OciRef.parse(text)
    assert caught.value.codes == (Code.OCI_UNPINNED,)
    assert pinned in caught.value.reasons[0].hint


@pytest.mark.parametrize(
    "text",
    [
        f"docker://registry.example/app@{PIN}",
        f"registry.example/app@{PIN}",
        f"oci://app@{PIN}",
        f"oci:///app@{PIN}",
        f"oci://registry.example/@{PIN}",
        f"oci://registry.example/App@{PIN}",
        f"oci://registry.example/a/../b@{PIN}",
        f"oci://registry.example//a@{PIN}",
        f"oci://registry.example/a?x@{PIN}",
        f"oci://registry.example/a#x@{PIN}",
        f"oci://user:word@registry.example/a@{PIN}",
        f"oci://10.0.0.1/a@{PIN}",
        f"oci://169.254.169.254/a@{PIN}",
        f"oci://[fe80::1]/a@{PIN}",
        f"oci://registry.example:0/a@{PIN}",
        f"oci://registry.example/{'a' * 256}@{PIN}",
        f"oci://registry.example/a@{PIN[:-1]}",
        f"oci://registry.example/a@{PIN.upper()}",
        f"oci://registry.example/a@{PIN}@{PIN}",
        "oci://registry.example/a@sha512:" + "ab" * 64,
        "oci://registry.example/a@blake3:" + "ab" * 32,
        f"oci://registry.exämple/a@{PIN}",
        "oci://registry.example/ä",
        f"oci://registry.example/a\n@{PIN}",
        "oci://",
        "",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        OciRef.parse(text)


@given(st.text(max_size=60).map("oci://".__add__))
def test_whatever_is_typed(text: str) -> None:
    with suppress(ValueError, RefusedError):
        assert str(OciRef.parse(text)) == text


def test_of_a_long_tag_the_beginning_is_shown() -> None:
    text = "oci://registry.example/" + "a" * 400 + ":1"
    with pytest.raises(RefusedError) as caught:
        OciRef.parse(text)
    (reason,) = caught.value.reasons
    assert reason.what == text[:300]
    assert reason.hint.endswith(f": {text[:300]}")


def test_siblings_share_the_repository() -> None:
    found = OciRef.parse(f"oci://registry.example/team/app@{PIN}").sibling(Digest("0" * 64))
    assert str(found) == f"oci://registry.example/team/app@sha256:{'0' * 64}"


def test_how_long_the_host_of_a_registry_may_be() -> None:
    host = ".".join(["a" * 62] * 4)
    assert OciRef(f"{host}.ab:65535", "app", Digest.of(b"")).host == f"{host}.ab:65535"
    with pytest.raises(ValueError, match="not the host of a registry"):
        OciRef(f"{host}.abc:65535", "app", Digest.of(b""))


def test_how_long_the_name_of_a_repository_may_be() -> None:
    assert OciRef("registry.example", "a" * 255, Digest.of(b"")).name == "a" * 255
    with pytest.raises(ValueError, match="not the name of a repository"):
        OciRef("registry.example", "a" * 256, Digest.of(b""))
