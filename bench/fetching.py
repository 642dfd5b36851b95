"""Fetches sources over TLS from a web server on the loopback: mvm's fetcher against `curl --parallel`."""

import compileall
import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.pairs import Pair, pair
from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, DownloadLimits
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.digest import Digest
from mvmnix.model import Source
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache
from tests.integration.misbehaving import Authority
from tests.integration.webserver import serving
from tests.repository import ROOT

#: As many at once as mvm's own default.
PARALLEL = DownloadLimits().parallel


def own_pins() -> list[int]:
    """How large the sources are that this repository pins for itself."""
    lock = json.loads((ROOT / "modules/debian/lock.json").read_bytes())
    return [pin["size"] for pin in lock["packages"].values()]


def fetching(sizes: Sequence[int], *, rounds: int) -> Pair:
    """Files of these sizes. Ours are hashed and get their names; curl only writes them.

    The worker's modules are compiled before, as an installation has them.
    """
    compileall.compile_dir(ROOT / "mvmnix/builder/fetch/worker", quiet=1)
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-fetch-") as name:
        base = Path(name)
        (base / "www").mkdir()
        authority = Authority.create(base)
        for number, size in enumerate(sizes):
            (base / "www" / f"file{number}").write_bytes(secrets.token_bytes(size))
        with serving(base / "www", base, authority) as origin:
            subject = _Subject(base, authority, origin, len(sizes))
            return pair(subject.ours, subject.theirs, rounds=rounds)


class _Subject:
    """The two ways to fetch all of them into an empty directory."""

    def __init__(self, base: Path, authority: Authority, origin: str, files: int) -> None:
        self._base = base
        self._environment = {"SSL_CERT_FILE": str(authority.bundle)}
        self._origin = origin
        served = [base / "www" / f"file{number}" for number in range(files)]
        self._sources = [Source(f"{origin}/{file.name}", file.name, Digest.of(file.read_bytes())) for file in served]

    @contextmanager
    def _empty(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._base) as name:
            yield Path(name)

    def ours(self) -> None:
        allowed = Allowlist(frozenset(), frozenset({self._origin}))
        with (
            self._empty() as place,
            Directory.open(str(place)) as directory,
            Downloader(allowed, DownloadLimits(), environment=self._environment) as downloader,
        ):
            fetch_sources(self._sources, Cache(directory), SilentProgress(), registries=[], downloader=downloader)

    def theirs(self) -> None:
        with self._empty() as place:
            words = [word for source in self._sources for word in ("-o", f"{place}/{source.name}", source.uri)]
            argv = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(PARALLEL), *words]
            subprocess.run(argv, env=self._environment, check=True)
