"""What a flake's fixed outputs may bring into the source store: of packages, no file but this installation's seed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mvmnix.api import installation
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS
from mvmnix.api.part_builder import InputFetcher
from mvmnix.builder.pins import seed
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import Source
from mvmnix.system import own_flake
from tests.repository import ROOT
from tests.unit.builder.pins.small_index import deb
from tests.unit.cli.station import Station


@pytest.fixture
def context(settled: Station) -> Iterator[Context]:
    with settled.rooms() as context:
        yield context


def test_a_package_of_a_flakes_is_never_unpacked(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fixed outputs: its bytes by an address of the web, the same as a package, and a file out of that."""
    monkeypatch.setattr(own_flake, "directory", lambda: ROOT)
    (lock,) = installation.debian_locks()
    data = deb({f"./{lock.seed.path}": b"x"})
    context.sources.put(data, Digest.of(data))
    package = Source("mirror://debian/pool/x.deb", "x.deb", Digest.of(data))
    nar = b"".join(seed.seed_nar(lock.seed.path, b"x"))
    file = replace(lock.seed_source, uri=f"{package.uri}#{lock.seed.path}", digest=Digest.of(nar))
    monkeypatch.setattr("mvmnix.builder.pins.sources.executable", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(RefusedError) as refusal:
        InputFetcher(context, SILENT_PROGRESS).sources((replace(package, uri="https://x.test/x"), package, file))
    assert refusal.value.codes == (ReasonCode.SOURCE_UNKNOWN,)
    assert refusal.value.reasons[0].what == file.uri
    assert not context.sources.has(file.digest)
