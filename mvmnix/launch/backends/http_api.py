"""One request to a hypervisor's HTTP API, composed and not sent: what both Preview backends are configured with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A PUT to `path`; `body` is its JSON, None for a request that has none."""

    path: str
    body: Mapping[str, object] | None = None

    def to_bytes(self) -> bytes:
        r"""The request as HTTP/1.1 (RFC 9112), for a unix socket, whose API asks for a Host and reads none.

        >>> ApiRequest("/api/v1/vm.boot").to_bytes()
        b'PUT /api/v1/vm.boot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n'
        """
        content = b"" if self.body is None else spelled(self.body)
        kind = "" if self.body is None else "Content-Type: application/json\r\n"
        head = f"PUT {self.path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {len(content)}\r\n\r\n"
        return head.encode("ascii") + content


def spelled(value: Mapping[str, object]) -> bytes:
    """JSON in ASCII: whatever stands in a path or a command line, no byte of it is JSON's own syntax."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")
