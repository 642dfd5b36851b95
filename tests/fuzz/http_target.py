"""Fed by atheris: whatever client and server say, what passes is requests to one host, as h11 reads them in one go.

The first byte says how long the portions are, and whether rules name requests. What the two say is divided by bytes
0xFF, the client first. Run by tests/integration/test_fuzz.py, and for longer: `make fuzz`.
"""

import sys

import atheris

with atheris.instrument_imports(include=["mvmnix.network", "h11"]):  # type: ignore[attr-defined]
    import h11

    from mvmnix.network.gateway.http_checker import HttpChecker, HttpRefusedError, Passed
    from mvmnix.network.gateway.http_heads import HeadError, HttpFault
    from mvmnix.network.policy.request_paths import RequestHead

HOST = "a.example"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT"})


def rule(request: RequestHead) -> str:
    if request.method in METHODS and request.path.startswith("/a"):
        return request.path
    raise HeadError(HttpFault.RULE, request)


class Connection:
    """A connection and what passed of it."""

    def __init__(self, *, strict: bool) -> None:
        self._checker = HttpChecker(HOST, 80, rule, strict=strict)
        self.sent = b""
        self.requests: tuple[RequestHead, ...] = ()
        self.refused = False
        self.tunnel_at: int | None = None

    def say(self, data: bytes, *, by_client: bool) -> None:
        if self.refused:
            return
        try:
            passed = self._checker.feed_client(data) if by_client else self._checker.feed_server(data)
        except HttpRefusedError as refusal:
            passed, self.refused = refusal.passed, True
        self._take(passed)

    def _take(self, passed: Passed) -> None:
        if self._checker.is_tunnel and self.tunnel_at is None:
            self.tunnel_at = len(self.sent)
        self.sent += b"".join(part.data for part in passed.sent)
        self.requests += passed.requests


def as_h11_reads(data: bytes) -> list[tuple[bytes, bytes]]:
    """Method and target of each request, and that each is for the host."""
    connection = h11.Connection(h11.SERVER, 1 << 20)
    connection.receive_data(data)
    found = []
    while connection.their_state is not h11.MUST_CLOSE:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            (host,) = (value for name, value in event.headers if name == b"host")
            assert host.lower() in {HOST.encode(), HOST.encode() + b":80"}
            found.append((event.method, event.target))
        elif isinstance(event, h11.EndOfMessage):
            if connection.their_state is not h11.DONE:
                break
            connection.send(h11.Response(status_code=204, headers=[]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                break
            connection.start_next_cycle()
        elif not isinstance(event, h11.Data):
            break
    return found


def one(data: bytes) -> None:
    first = data[0] if data else 0
    step, strict = first & 0x7F or 1, first > 0x7F
    whole, parts = Connection(strict=strict), Connection(strict=strict)
    for number, said in enumerate(data[1:].split(b"\xff")):
        whole.say(said, by_client=number % 2 == 0)
        for at in range(0, len(said), step):
            parts.say(said[at : at + step], by_client=number % 2 == 0)
    if not any(request.upgrade for request in whole.requests):
        assert parts.sent.startswith(whole.sent)
        assert parts.sent == whole.sent or whole.refused
        assert parts.requests == whole.requests
    if whole.sent:
        read = as_h11_reads(whole.sent[: whole.tunnel_at])
        ours = [(request.method.encode(), request.target.encode()) for request in whole.requests]
        assert ours[: len(read)] == read
        assert read
        assert not strict or not any(request.has_content for request in whole.requests[:-1])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
