"""Debian's docker-registry on the loopback, with a storage of its own; images are pushed over its own protocol."""

import socket
import subprocess
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Self

from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from tests.patience import EVENT_PATIENCE, until
from tests.unit.builder.oci.images import INDEX, MANIFEST, Pushed, name_of


class DockerRegistry:
    """A context manager; `origin` is what config.toml lists, `host` what stands in references."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.origin = f"http://{self.host}"
        self._directory = directory
        self._log = (directory / "log").open("wb")
        config = directory / "config.yml"
        config.write_text(
            f"version: 0.1\nlog:\n  accesslog:\n    disabled: false\nhttp:\n  addr: {self.host}\n"
            f"storage:\n  filesystem:\n    rootdirectory: {directory}/storage\n"
        )
        argv = ["docker-registry", "serve", str(config)]
        self._child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env={"OTEL_TRACES_EXPORTER": "none"}
        )

    def __enter__(self) -> Self:
        until(self._listens, self.log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """It is gone from now on."""
        self._child.terminate()
        self._child.wait()
        self._log.close()

    def log(self) -> str:
        """What it said: one line for each request."""
        return (self._directory / "log").read_text(errors="replace")

    def visits(self) -> int:
        """How many requests mvm made of it; those that stored an image may still be on their way into the log."""
        return self.log().count('"mvmnix"')

    def push(self, image: Pushed, name: str = "team/app", *, index: bytes | None = None) -> OciRef:
        """Store an image, and an index of it if one is given; returns what names it."""
        document = image.document
        self.attach(name, name_of(document), document, *image.blobs.values(), media_type=image.manifest["mediaType"])
        if index is not None:
            document = index
            self.attach(name, name_of(index), index, media_type=INDEX)
        return OciRef(self.host, name, Digest.of(document))

    def document(self, name: str, tag: str) -> bytes:
        """What lies under a tag."""
        (found,) = self._directory.glob(f"storage/**/{name}/_manifests/tags/{tag}/current/link")
        return self.stored(Digest(found.read_text().removeprefix("sha256:"))).read_bytes()

    def attach(self, name: str, tag: str, document: bytes, *blobs: bytes, media_type: str = MANIFEST) -> None:
        """Store a manifest or index under a tag, or under `sha256:…`, and blobs that it names."""
        for data in blobs:
            begun = self._ask("POST", f"{self.origin}/v2/{name}/blobs/uploads/")
            location = begun["Location"]
            self._ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={name_of(data)}", data)
        self._ask("PUT", f"{self.origin}/v2/{name}/manifests/{tag}", document, media_type)

    def stored(self, digest: Digest) -> Path:
        """Where it keeps a blob."""
        (found,) = self._directory.glob(f"storage/**/blobs/sha256/*/{digest.hex}/data")
        return found

    def _listens(self) -> bool:
        assert self._child.poll() is None, self.log()
        try:
            self._ask("GET", f"{self.origin}/v2/")
        except OSError:
            return False
        return True

    def _ask(
        self, method: str, url: str, data: bytes | None = None, media_type: str = "application/octet-stream"
    ) -> Message:
        request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": media_type})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=EVENT_PATIENCE) as answer:
                answer.read()
                headers = answer.headers
        except urllib.error.HTTPError as error:
            message = f"{method} {url}: {error.code} {error.read()!r}"
            raise AssertionError(message) from error
        assert isinstance(headers, Message)
        return headers
