"""Reads the head of one HTTP/1.x request or response, and refuses what two readers could understand differently; pure.

h11 reads each head by itself, and this module is stricter than h11, since the server reads the same bytes with other
code (RFC 9112, 11.2). The code has these numbers; 1 and 7 are in http_checker.py:

2. No line is folded or has a control character, and the first line is a request of HTTP 1.0 or 1.1. HEAD is in
   capitals: some servers take any case for it, and then the answer has no body (RFC 9110, 9.3.2).
3. The body's length is said once: one Content-Length below 2^53, without sign and leading zeros, or
   `Transfer-Encoding: chunked` in HTTP/1.1; and in no field that some servers take for one of these (`Content_Length`).
4. The target is a path: no absolute form, authority (CONNECT) or asterisk, and no fragment.
5. There is one Host, the name that was looked up, with no port or the connection's, and no dot at its end.
6. Nothing but `Expect: 100-continue` is expected. The one upgrade is to WebSocket (RFC 6455, 4.1), by a GET without
   body; h2c and others are refused, and so are options of Connection that would take away a field checked here.

Whether a request has content, and whether it names a method, path or host a second time, is noted for the rules
(decisions.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

import h11

from mvmnix.network.gateway.http_bodies import LONGEST_BODY, Body, ChunkedBody, SizedBody, UnendingBody
from mvmnix.network.policy.request_paths import RequestHead

#: Bytes of a request's head, and of a response's.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_RESPONSE_HEAD_BYTES: Final = 64 * 1024

_REQUEST_LINE: Final = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]{1,32}) ([!-~]+) HTTP/([0-9]\.[0-9])")
_FOLDED: Final = re.compile(rb"\r\n[ \t]")
#: Some of them end a line for who splits a text (str.splitlines). h11 takes a time that grows with the square of the
#: blanks before one to refuse it: half a minute for 60,000.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,15}")
_VERSIONS: Final = frozenset({b"1.0", b"1.1"})
#: Fields that frameworks take another method from (the first line), another path, or a second one.
_OVERRIDES: Final = frozenset(
    {
        *(b"x-http-method", b"x-http-method-override", b"x-method-override"),
        *(b"x-forwarded-method", b"x-original-method"),
        # IIS URL Rewrite, Symfony before 4.1, Zend and Laminas, CakePHP, Yii
        *(b"x-original-url", b"x-rewrite-url", b"x-original-uri", b"x-override-url", b"x-forwarded-uri"),
        # what is cut off the path, or put before it: gunicorn, Werkzeug's ProxyFix, Symfony, Spring
        *(b"script-name", b"path-info", b"x-script-name", b"x-forwarded-prefix", b"x-forwarded-path"),
        b"destination",  # where COPY and MOVE write (RFC 4918, 10.3)
        # another Host: Rack, and what counts on a proxy before it
        *(b"forwarded", b"x-forwarded-host", b"x-original-host", b"x-host", b"x-http-host-override"),
        b"x-forwarded-server",
    }
)
#: What CGI and its like take for one character in a field's name (RFC 3875, 4.1.18), and PHP in a parameter's.
_PUNCTUATION: Final = re.compile(rb"[^0-9a-z]")
#: The parameter that Symfony, Laravel and Express take a method from.
_METHOD_PARAMETER: Final = b"-method"
_CONNECTION: Final = re.compile(rb"(?mi)^(?:connection|keep-alive):.*\n(?:[ \t].*\n)*")
#: Fields that no option of Connection may take away on the way to the server (RFC 9110, 7.6.1).
_CHECKED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


class HttpFault(StrEnum):
    """Why a connection is refused."""

    MALFORMED = "malformed"
    LINE_ENDING = "line-ending"
    FOLDED = "folded"
    TOO_LONG = "too-long"
    VERSION = "version"
    HTTP2 = "http2"
    LENGTH = "length"
    CHUNKS = "chunks"
    CONNECT = "connect"
    ABSOLUTE_FORM = "absolute-form"
    TARGET = "target"
    HOST = "host"
    EXPECTATION = "expectation"
    UPGRADE = "upgrade"
    CONNECTION_OPTION = "connection-option"
    PIPELINED = "pipelined"
    RULE = "rule"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer; one below 200 is followed by another one, but for 101."""

    status: int
    body: Body


class HeadError(Exception):
    """A head that is refused; `request` is what it asks for, as far as that could be read."""

    def __init__(self, fault: HttpFault, request: RequestHead | None = None) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.request = request


#: The id of the rule that allows a request. Raises HeadError [rule].
type RequestRule = Callable[[RequestHead], str]


def read_request(head: bytes, host: str, port: int) -> tuple[RequestHead, Body]:
    """A whole head, up to its empty line, and the body that follows it. Raises HeadError."""
    # 2. the form
    line, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise HeadError(HttpFault.MALFORMED)
    if _FOLDED.search(head):
        raise HeadError(HttpFault.FOLDED)
    method, target, version = found.groups()
    request = RequestHead(method.decode(), target.decode(), version.decode(), upgrade=False)
    if request.method.upper() == "HEAD" != request.method:
        raise HeadError(HttpFault.MALFORMED, request)
    if version not in _VERSIONS:
        raise HeadError(HttpFault.VERSION, request)
    fields = _Fields(rest)
    # 3. the length
    body = _request_body(fields, request)
    # 4. the target
    _check_target(request)
    # 5. the host
    if not _is_host(fields.one(b"host"), host, port):
        raise HeadError(HttpFault.HOST, request)
    # 6. what is expected
    request = _with_upgrade(fields, request, body)
    request = replace(
        request, has_content=not body.ended, has_override=fields.has_override or _overrides(request.target)
    )
    if _CONTROL.search(head):
        raise HeadError(HttpFault.MALFORMED, request)
    connection = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HeadError(HttpFault.MALFORMED, request) from error
    if not isinstance(event, h11.Request):
        raise HeadError(HttpFault.MALFORMED, request)
    return request, body


class _Fields:
    """The values of fields by their names in lower case, as the bytes have them."""

    __slots__ = ("_values",)

    def __init__(self, lines: list[bytes]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            self._values.setdefault(name.lower(), []).append(value.strip(b" \t"))

    def all(self, name: bytes) -> list[bytes]:
        return self._values.get(name, [])

    @property
    def has_override(self) -> bool:
        """Whether one of them names another method, path or host."""
        return not _OVERRIDES.isdisjoint(map(_fold_name, self._values))

    @property
    def has_lookalike(self) -> bool:
        """Whether one of them is a field checked here to servers that take its punctuation for hyphens."""
        return any(name not in _CHECKED and _fold_name(name) in _CHECKED for name in self._values)

    def one(self, name: bytes) -> bytes | None:
        """The value of a field that there is once, otherwise None."""
        found = self.all(name)
        return found[0] if len(found) == 1 else None

    def listed(self, name: bytes) -> list[bytes]:
        """The members of a list, in lower case (RFC 9110, 5.6.1)."""
        return [one.strip(b" \t").lower() for value in self.all(name) for one in value.split(b",")]


def _fold_name(name: bytes) -> bytes:
    """Return a field's name as CGI and its like compare it."""
    return _PUNCTUATION.sub(b"-", name)


def _request_body(fields: _Fields, request: RequestHead) -> Body:
    lengths, codings = fields.all(b"content-length"), fields.all(b"transfer-encoding")
    if fields.has_lookalike:
        raise HeadError(HttpFault.LENGTH, request)
    if codings:
        if lengths or request.version != "1.1" or [one.lower() for one in codings] != [b"chunked"]:
            raise HeadError(HttpFault.LENGTH, request)
        return ChunkedBody(strict=True)
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(one) and int(one) <= LONGEST_BODY for one in lengths):
        raise HeadError(HttpFault.LENGTH, request)
    return SizedBody(int(lengths[0]) if lengths else 0)


def _overrides(target: str) -> bool:
    """Whether a parameter of the query names another method."""
    names = (part.partition("=")[0] for part in re.split("[&;]", target.partition("?")[2]))
    read = (unquote_to_bytes(name.replace("+", " ")).partition(b"\0")[0].strip().lower() for name in names)
    return any(_fold_name(name) == _METHOD_PARAMETER for name in read)


def _check_target(request: RequestHead) -> None:
    if request.method == "CONNECT":
        raise HeadError(HttpFault.CONNECT, request)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", request.target):
        raise HeadError(HttpFault.ABSOLUTE_FORM, request)
    if not request.target.startswith("/") or "#" in request.target:
        raise HeadError(HttpFault.TARGET, request)


def _is_host(value: bytes | None, host: str, port: int) -> bool:
    return value is not None and value.lower() in {host.encode(), f"{host}:{port}".encode()}


def _with_upgrade(fields: _Fields, request: RequestHead, body: Body) -> RequestHead:
    expected = fields.all(b"expect")
    if expected and [one.lower() for one in expected] != [b"100-continue"]:
        raise HeadError(HttpFault.EXPECTATION, request)
    options = fields.listed(b"connection")
    if not _CHECKED.isdisjoint(options):
        raise HeadError(HttpFault.CONNECTION_OPTION, request)
    upgrades = fields.all(b"upgrade")
    if fields.all(b"http2-settings") or b"http2-settings" in options:
        raise HeadError(HttpFault.UPGRADE, request)
    if not upgrades and b"upgrade" not in options:
        return request
    plain = request.method == "GET" and request.version == "1.1" and body.ended
    if [one.lower() for one in upgrades] != [b"websocket"] or b"upgrade" not in options or not plain:
        raise HeadError(HttpFault.UPGRADE, request)
    return replace(request, upgrade=True)


def with_close(head: bytes) -> bytes:
    r"""A head by which its message is the connection's last one (RFC 9112, 9.6), in place of what it said of that.

    >>> with_close(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    b'GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n'
    """
    line, _, fields = head.partition(b"\n")
    return line + b"\nConnection: close\r\n" + _CONNECTION.sub(b"", fields)


def read_response(head: bytes, request: RequestHead) -> Response:
    """What a server answers to a request: a whole head, up to its empty line. Raises HeadError [response]."""
    if _CONTROL.search(head):
        raise HeadError(HttpFault.RESPONSE)
    connection = h11.Connection(h11.CLIENT, MAX_RESPONSE_HEAD_BYTES)
    asked = [("Host", "host"), *([("Upgrade", "websocket"), ("Connection", "Upgrade")] if request.upgrade else [])]
    connection.send(h11.Request(method=request.method, target="/", headers=asked))
    connection.send(h11.EndOfMessage())
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HeadError(HttpFault.RESPONSE) from error
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise HeadError(HttpFault.RESPONSE)
    fields = dict(event.headers)
    if event.status_code == 101 and fields.get(b"upgrade", b"").lower() != b"websocket":
        raise HeadError(HttpFault.RESPONSE)
    return Response(event.status_code, _response_body(event.status_code, fields, request.method))


def _response_body(status: int, fields: dict[bytes, bytes], method: str) -> Body:
    """RFC 9112, 6.3."""
    if status < 200 or status in {204, 304} or method == "HEAD":
        return SizedBody(0)
    if b"transfer-encoding" in fields:  # chunked, or h11 had refused it
        return ChunkedBody(strict=False)
    if (length := fields.get(b"content-length")) is not None:
        return SizedBody(int(length))
    return UnendingBody()
