"""Requests of a connection, checked in any portions: what passes as it is, and each way to be refused."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.gateway import http_heads
from mvmnix.network.gateway.http_checker import HttpChecker, HttpRefusedError, Part, Passed
from mvmnix.network.gateway.http_heads import (
    MAX_HEAD_BYTES,
    MAX_RESPONSE_HEAD_BYTES,
    HeadError,
    HttpFault,
    read_request,
    read_response,
)
from mvmnix.network.gateway.opening import refusal
from mvmnix.network.policy.request_paths import RequestHead

F = HttpFault
HOST = "index.example"
GET = b"GET / HTTP/1.1\r\nHost: index.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: index.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"


def checker(port: int = 80, *, strict: bool = False) -> HttpChecker:
    return HttpChecker(HOST, port, lambda _: "web", strict=strict)


def passed(to_server: bytes = b"", to_client: bytes = b"", requests: tuple[RequestHead, ...] = ()) -> Passed:
    sent, received = (tuple(Part("web", data) for data in (one,) if data) for one in (to_server, to_client))
    return Passed(sent, received, requests)


def join(parts: tuple[Part, ...]) -> bytes:
    return b"".join(part.data for part in parts)


def request(*lines: str, first: str = "GET / HTTP/1.1", host: str | None = HOST) -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    return "\r\n".join((first, *hosts, *lines, "", "")).encode("latin-1")


def settled(made: HttpChecker) -> bool:
    """Asked again and again, which mypy takes to be the same."""
    return made.is_settled


def fault_of(*said: bytes, port: int = 80) -> HttpFault | None:
    made = checker(port)
    try:
        for one in said:
            made.feed_client(one)
    except HttpRefusedError as refusal:
        return refusal.fault
    return None


BODY = b"POST /a HTTP/1.1\r\nHost: index.example\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /b HTTP/1.1\r\nHost: INDEX.example\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5\r\nhello\r\n00000A\r\n0123456789\r\n0\r\n\r\n"
)
PASSING = {
    "one": GET,
    "two at once": GET + GET,
    "a body": BODY,
    "a body, and another request": BODY + GET,
    "chunks": CHUNKED,
    "chunks, and another request": CHUNKED + BODY + GET,
    "no chunk": request("Transfer-Encoding: chunked") + b"0\r\n\r\n" + GET,
    "HTTP/1.0": request(first="GET / HTTP/1.0"),
    "HEAD": request(first="HEAD / HTTP/1.1"),
    "OPTIONS": request(first="OPTIONS /a HTTP/1.1"),
    "a method that is not known": request(first="M-SEARCH /a HTTP/1.1"),
    "the longest method": request(first="A" * 32 + " /a HTTP/1.1"),
    "a query": request(first="GET /a?b=http://c/%2e%2e HTTP/1.1"),
    "the port": request(host="Index.Example:80"),
    "blanks around the host": request("Host: \t index.example \t", host=None),
    "an empty length": request("Content-Length: 0", first="POST / HTTP/1.1") + GET,
    "other bytes in a field": request("X: \xe4\xf6"),
    "to be continued": request("Expect: 100-Continue", "Content-Length: 2", first="POST / HTTP/1.1") + b"ok",
    "keep-alive": request("Connection: keep-alive") + request("Connection: close"),
    "TE": request("TE: trailers", "Connection: TE"),
    "an empty option": request("Connection: keep-alive, ,"),
}


@pytest.mark.parametrize("shown", PASSING)
def test_what_passes_in_any_portions(shown: str) -> None:
    data = PASSING[shown]
    whole = checker().feed_client(data)
    assert whole == passed(data, b"", whole.requests)
    made = checker()
    fed = [made.feed_client(data[at : at + 1]) for at in range(len(data))]
    assert b"".join(join(one.sent) for one in fed) == data
    assert sum((one.requests for one in fed), ()) == whole.requests


def test_the_longest_body_passes() -> None:
    assert fault_of(request(f"Content-Length: {2**53 - 1}")) is None
    assert fault_of(request("Transfer-Encoding: chunked") + b"1fffffffffffff\r\n") is None


def test_what_it_says_of_requests() -> None:
    made = checker(8080)
    said = request(first="PUT /a/b?c HTTP/1.1", host="index.example:8080") + UPGRADE
    with pytest.raises(HttpRefusedError):  # the upgrade, while an answer is due
        made.feed_client(said)
    found = checker().feed_client(BODY + CHUNKED)
    assert found.requests == (
        RequestHead("POST", "/a", "1.1", upgrade=False, has_content=True),
        RequestHead("PUT", "/b", "1.1", upgrade=False, has_content=True),
    )
    assert RequestHead("GET", "/a/b?c?d", "1.1", False).path == "/a/b"


def test_a_body_passes_as_it_comes_and_a_head_once_it_is_whole() -> None:
    made = checker()
    assert made.feed_client(BODY[:20]) == Passed()
    assert join(made.feed_client(BODY[20:-2]).sent) == BODY[:-2]
    assert join(made.feed_client(b"l").sent) == b"l"
    assert join(made.feed_client(b"o" + GET[:-1]).sent) == b"o"
    assert join(made.feed_client(b"\n").sent) == GET


#: Those that end no line of HTTP and are no blank.
_CONTROLS = sorted({*range(32), 127} - set(b"\t\r\n"))

REFUSED: dict[str, tuple[bytes, HttpFault]] = {
    # 1. the form of a head
    "TLS": (b"\x16\x03\x01", F.MALFORMED),
    "an empty line first": (b"\r\n" + GET, F.MALFORMED),
    "SSH": (b"SSH-2.0-x\r\n", F.MALFORMED),
    "HTTP/0.9": (b"GET /\r\n", F.MALFORMED),
    "two blanks": (b"GET  / HTTP/1.1\r\n", F.MALFORMED),
    "a blank first": (b" GET / HTTP/1.1\r\n", F.MALFORMED),
    "a blank last": (b"GET / HTTP/1.1 \r\n", F.MALFORMED),
    "a tab": (b"GET\t/ HTTP/1.1\r\n", F.MALFORMED),
    "a blank in the target": (b"GET /a b HTTP/1.1\r\n", F.MALFORMED),
    "a target that is not ASCII": (b"GET /\xe4", F.MALFORMED),
    "a NUL in the target": (b"GET /a\0", F.MALFORMED),
    "a long method": (b"A" * 33, F.MALFORMED),
    "a long method, whole": (request(first="A" * 33 + " / HTTP/1.1"), F.MALFORMED),
    "a method with a slash": (b"GET/ / HTTP/1.1\r\n", F.MALFORMED),
    "http in lower case": (b"GET / http/1.1\r\n", F.MALFORMED),
    "a version of two digits": (b"GET / HTTP/1.10\r\n", F.MALFORMED),
    "a field without a colon": (request("X"), F.MALFORMED),
    "a blank before a colon": (request("X : y"), F.MALFORMED),
    "a length with a blank before its colon": (request("Content-Length : 5"), F.MALFORMED),
    **{f"a {each:#04x} in a field": (request(f"X: a{chr(each)}b"), F.MALFORMED) for each in _CONTROLS},
    "a field's name that is not ASCII": (request("\xe4: b"), F.MALFORMED),
    "HEAD in small letters": (request(first="head / HTTP/1.1"), F.MALFORMED),
    "HEAD in mixed letters": (request(first="Head / HTTP/1.1"), F.MALFORMED),
    "an empty name": (request(": b"), F.MALFORMED),
    "lines that end with LF": (GET.replace(b"\r\n", b"\n"), F.LINE_ENDING),
    "one line that ends with LF": (b"GET / HTTP/1.1\r\nHost: index.example\nX: y\r\n", F.LINE_ENDING),
    "an empty line that ends with LF": (b"GET / HTTP/1.1\r\nHost: index.example\r\n\n", F.LINE_ENDING),
    "a CR in a field": (b"GET / HTTP/1.1\r\nHost: index.example\rX: y\r\n", F.LINE_ENDING),
    "two CR": (b"GET / HTTP/1.1\r\nHost: index.example\r\r\n", F.LINE_ENDING),
    "a folded field": (request("X: y", " z"), F.FOLDED),
    "a folded host": (request("Host:", " index.example", host=None), F.FOLDED),
    "a folded length": (request("Content-Length:", "\t5"), F.FOLDED),
    "a blank before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\nHost: index.example\r\n\r\n", F.FOLDED),
    "a head beyond the bound": (request("X: " + "y" * (32 << 10)), F.TOO_LONG),
    "a target beyond the bound": (b"GET /" + b"a" * MAX_HEAD_BYTES, F.TOO_LONG),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", F.HTTP2),
    "the beginning of that": (b"PRI * HTTP/2", F.HTTP2),
    "another PRI": (request(first="PRI * HTTP/1.1"), F.TARGET),
    "HTTP/1.2": (request(first="GET / HTTP/1.2"), F.VERSION),
    "HTTP/2.0 in a line": (request(first="GET / HTTP/2.0"), F.VERSION),
    "HTTP/0.9 in a line": (request(first="GET / HTTP/0.9"), F.VERSION),
    # 3. the length of the body
    "length and chunks": (request("Content-Length: 5", "Transfer-Encoding: chunked"), F.LENGTH),
    "chunks and length": (request("Transfer-Encoding: chunked", "Content-Length: 5"), F.LENGTH),
    "the same length twice": (request("Content-Length: 5", "Content-Length: 5"), F.LENGTH),
    "two lengths": (request("Content-Length: 5", "content-length: 6"), F.LENGTH),
    "a list of lengths": (request("Content-Length: 5, 5"), F.LENGTH),
    "a signed length": (request("Content-Length: +5"), F.LENGTH),
    "a length below zero": (request("Content-Length: -1"), F.LENGTH),
    "a hexadecimal length": (request("Content-Length: 0x5"), F.LENGTH),
    "a length of no digits": (request("Content-Length:"), F.LENGTH),
    "a length without bounds": (request("Content-Length: " + "9" * 19), F.LENGTH),
    "a length beyond the bound": (request(f"Content-Length: {2**53}"), F.LENGTH),
    "a length with a zero before it": (request("Content-Length: 05"), F.LENGTH),
    "two zeros": (request("Content-Length: 00"), F.LENGTH),
    "a length with an underscore": (request("Content_Length: 5"), F.LENGTH),
    "a length with an underscore beside one": (request("Content-Length: 0", "content.length: 5"), F.LENGTH),
    "chunks with an underscore": (request("Transfer_Encoding: chunked"), F.LENGTH),
    "chunked twice": (request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), F.LENGTH),
    "chunked in a list": (request("Transfer-Encoding: chunked, chunked"), F.LENGTH),
    "gzip": (request("Transfer-Encoding: gzip, chunked"), F.LENGTH),
    "identity": (request("Transfer-Encoding: identity"), F.LENGTH),
    "chunked and then identity": (request("Transfer-Encoding: chunked, identity"), F.LENGTH),
    "an unknown coding": (request("Transfer-Encoding: xchunked"), F.LENGTH),
    "a quoted coding": (request('Transfer-Encoding: "chunked"'), F.LENGTH),
    "a vertical tab before chunked": (request("Transfer-Encoding: \x0bchunked"), F.LENGTH),
    "an empty coding": (request("Transfer-Encoding:"), F.LENGTH),
    "chunks in HTTP/1.0": (request("Transfer-Encoding: chunked", first="GET / HTTP/1.0"), F.LENGTH),
    # the chunks
    **{
        f"a chunk {chunk!r}": (request("Transfer-Encoding: chunked") + chunk, F.CHUNKS)
        for chunk in (
            *(b"x\r\n", b"\r\n", b"5\n", b"-5\r\n", b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\n", b"5;a=b\r\n"),
            *(b"5\r\nhelloX", b"5\r\nhello\n", b"5\r\nhello\rX\n", b"1" * 17 + b"\r\n", b"5\r\r\n", b"_5\r\n"),
            *(
                b"x",
                b"5;",
                b"5 ",
                b"0\r\nX",
                b"5\r\nhello5",
                b"0\r\nX: y\r\n\r\n",
                b"0\r\nContent-Length: 5\r\n\r\n",
                b"0\r\n\n",
                b"0;a\r\n\r\n",
                b"9" * 4096,
                b"20000000000000\r\n",
            ),
        )
        if not chunk.startswith((b"5\r\nhelloX", b"5\r\nhello\rX"))
    },
    "a chunk longer than its size": (request("Transfer-Encoding: chunked") + b"5\r\nhelloX\r\n", F.CHUNKS),
    # 4. the target
    "CONNECT": (request(first="CONNECT index.example:443 HTTP/1.1"), F.CONNECT),
    "CONNECT to a path": (request(first="CONNECT / HTTP/1.1"), F.CONNECT),
    "absolute": (request(first="GET http://index.example/ HTTP/1.1"), F.ABSOLUTE_FORM),
    "absolute, elsewhere": (request(first="GET http://other.example/ HTTP/1.1"), F.ABSOLUTE_FORM),
    "absolute, by another scheme": (request(first="GET FTP://index.example/ HTTP/1.1"), F.ABSOLUTE_FORM),
    "an authority": (request(first="GET other.example HTTP/1.1"), F.TARGET),
    "an asterisk": (request(first="OPTIONS * HTTP/1.1"), F.TARGET),
    "a fragment": (request(first="GET /a#b HTTP/1.1"), F.TARGET),
    # 5. the host
    "no host": (request(host=None), F.HOST),
    "no host in HTTP/1.0": (request(first="GET / HTTP/1.0", host=None), F.HOST),
    "the host twice": (request(f"Host: {HOST}"), F.HOST),
    "two hosts": (request("Host: other.example"), F.HOST),
    **{
        f"the host {host!r}": (request(f"Host:{host}", host=None), F.HOST)
        for host in (
            # none, another one, one of its letters
            *("", " ", " other.example", " a.index.example", " evil-index.example", " index.example.evil.example"),
            *(" index.example, other.example", " index.example.", " \xe0ndex.example", " index.example\x0b"),
            # another port, an empty one, one in other words; a user, a path, an address
            *(" index.example:8080", " index.example:", " index.example:080", " index.example:+80"),
            *(" user@index.example", " index.example/", " index.example\0.evil.example", " 192.0.2.1", " 2130706433"),
        )
    },
    # 6. what is expected
    "another expectation": (request("Expect: 200-ok"), F.EXPECTATION),
    "an expectation twice": (request("Expect: 100-continue", "Expect: 100-continue"), F.EXPECTATION),
    "h2c": (request("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"), F.UPGRADE),
    "h2c without settings": (request("Upgrade: h2c", "Connection: Upgrade"), F.UPGRADE),
    "settings alone": (request("HTTP2-Settings: AAMAAABk"), F.UPGRADE),
    "settings as an option": (request("Connection: HTTP2-Settings"), F.UPGRADE),
    "TLS in the clear": (request("Upgrade: TLS/1.2", "Connection: Upgrade"), F.UPGRADE),
    "a choice of upgrades": (request("Upgrade: websocket, h2c", "Connection: Upgrade"), F.UPGRADE),
    "two upgrades": (request("Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"), F.UPGRADE),
    "an upgrade that is no option": (request("Upgrade: websocket"), F.UPGRADE),
    "an option alone": (request("Connection: upgrade"), F.UPGRADE),
    "a WebSocket by POST": (UPGRADE.replace(b"GET", b"POST"), F.UPGRADE),
    "a WebSocket in HTTP/1.0": (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), F.UPGRADE),
    "a WebSocket with a body": (UPGRADE[:-2] + b"Content-Length: 2\r\n\r\n", F.UPGRADE),
    "a WebSocket with chunks": (UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", F.UPGRADE),
    "a WebSocket behind another request": (GET + UPGRADE, F.UPGRADE),
    "more than a head after an upgrade": (UPGRADE + b"x" * (MAX_HEAD_BYTES + 1), F.TOO_LONG),
    **{
        f"the option {option}": (request(f"Connection: close, {option}"), F.CONNECTION_OPTION)
        for option in ("Host", "content-length", "Transfer-Encoding", "expect")
    },
    # 7. what waits
    "too many at once": (GET * 129, F.PIPELINED),
    # behind another request
    "another host behind a request": (GET + request(host="other.example"), F.HOST),
    "another host behind a body": (BODY + request(host="other.example"), F.HOST),
    "another host behind chunks": (CHUNKED + request(host="other.example"), F.HOST),
    "bytes behind a body": (BODY + b"\r\n" + GET, F.MALFORMED),
}


@pytest.mark.parametrize("shown", REFUSED)
def test_what_is_refused(shown: str) -> None:
    data, fault = REFUSED[shown]
    assert fault_of(data) is fault
    step = 1 if len(data) < 10000 else 100
    assert fault_of(*(data[at : at + step] for at in range(0, len(data), step))) is fault


def test_each_fault_has_a_row() -> None:
    """Those of a rule and of a server are in tests of their own."""
    assert {fault for _, fault in REFUSED.values()} == set(HttpFault) - {F.RULE, F.RESPONSE}


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1"])
def test_a_head_by_itself_has_to_be_a_request(head: bytes) -> None:
    with pytest.raises(HeadError, match=r"malformed|host"):
        read_request(head, HOST, 80)


def test_so_many_requests_may_wait_for_answers() -> None:
    assert fault_of(GET * 128) is None


def test_the_longest_head_passes() -> None:
    room = (32 << 10) - len(request("X: "))
    assert fault_of(request("X: " + "y" * room)) is None
    assert fault_of(request("X: " + "y" * (room + 1))) is F.TOO_LONG


def test_the_longest_head_of_an_answer_passes() -> None:
    room = (64 << 10) - len(b"HTTP/1.1 204 OK\r\nX: \r\n\r\n")
    for more, is_refused in ((0, False), (1, True)):
        made = checker()
        made.feed_client(GET)
        with pytest.raises(HttpRefusedError) if is_refused else nullcontext():
            made.feed_server(b"HTTP/1.1 204 OK\r\nX: " + b"y" * (room + more) + b"\r\n\r\n")


def test_what_came_before_a_refusal_may_pass_and_a_refusal_stays_one() -> None:
    made = checker()
    with pytest.raises(HttpRefusedError) as refusal:
        made.feed_client(BODY + request(host="other.example", first="GET /x HTTP/1.1"))
    assert refusal.value.passed == passed(BODY, b"", (RequestHead("POST", "/a", "1.1", False, has_content=True),))
    assert refusal.value.request == RequestHead("GET", "/x", "1.1", False)
    assert not settled(made)
    assert join(made.feed_server(OK).received) == OK
    assert settled(made)
    with pytest.raises(HttpRefusedError) as again:
        made.feed_client(GET)
    assert (again.value.fault, again.value.passed) == (F.HOST, Passed())


def test_the_answer_to_a_refusal() -> None:
    for method, ends in (("GET", b"\r\n\r\nno rule allows it\n"), ("HEAD", b"\r\n\r\n")):
        answer = refusal("no rule allows it", method=method)
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert answer.partition(b"Connection: close")[2] == ends
        assert b"Content-Length: 18\r\n" in answer


def test_the_rule_is_asked_about_each_request() -> None:
    asked = list[RequestHead]()

    def rule(request: RequestHead) -> str:
        asked.append(request)
        if len(asked) == 3:
            raise HeadError(F.RULE, request)
        return "web"

    made = HttpChecker(HOST, 80, rule, strict=False)
    assert join(made.feed_client(BODY).sent) == BODY
    with pytest.raises(HttpRefusedError) as refusal:
        made.feed_client(GET + request(first="DELETE /a?b HTTP/1.1") + GET)
    assert (refusal.value.fault, join(refusal.value.passed.sent)) == (F.RULE, GET)
    assert [(one.method, one.path) for one in asked] == [("POST", "/a"), ("GET", "/"), ("DELETE", "/a")]
    assert refusal.value.request is asked[-1]


def answered(*said: bytes, asked: bytes = GET) -> HttpChecker:
    made = checker()
    made.feed_client(asked)
    assert b"".join(join(made.feed_server(one).received) for one in said) == b"".join(said)
    return made


HEAD = b"HEAD / HTTP/1.1\r\nHost: index.example\r\n\r\n"
#: By what each shows: requests, responses.
ANSWERS = {
    "a length": (GET, OK),
    "no length": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "two": (GET + GET, OK + OK),
    "HEAD": (HEAD + GET, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + OK),
    "HEAD of chunks": (HEAD + GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + OK),
    "204": (GET + GET, b"HTTP/1.1 204 No Content\r\n\r\n" + OK),
    "304": (GET + GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n" + OK),
    "100": (BODY + GET, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + OK),
    "103": (GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK),
    "chunks": (GET + GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + OK),
    "chunks with all that they may have": (
        GET + GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a=b\r\nhello\r\n0;c\r\nX: y\r\nZ: \r\n\r\n" + OK,
    ),
    "the longest line of a chunk": (
        GET + GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"a" * 4092 + b"\r\nhello\r\n0\r\n\r\n" + OK,
    ),
    "lines that end with LF": (GET + GET, b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + OK),
    "no reason": (GET, b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    "before the body is there": (BODY[:-3], OK),
}


@pytest.mark.parametrize("shown", ANSWERS)
def test_answers_are_counted(shown: str) -> None:
    asked, said = ANSWERS[shown]
    assert settled(answered(said, asked=asked))
    made = checker()
    made.feed_client(asked)
    came = [join(made.feed_server(said[at : at + 1]).received) for at in range(len(said) - 1)]
    assert not settled(made)
    assert b"".join([*came, join(made.feed_server(said[-1:]).received)]) == said
    assert settled(made)
    with pytest.raises(HttpRefusedError):
        made.feed_server(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_that_ends_with_the_connection() -> None:
    made = answered(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 100000, b"HTTP/1.1 200 OK\r\n\r\n")
    assert not settled(made)
    assert join(made.feed_client(GET).sent) == GET


@pytest.mark.parametrize("control", [b"\0", b"\x0b", b"\x1f", b"\x7f", b"\r"])
def test_what_h11_takes_long_to_refuse_does_not_reach_it(control: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute for 60,000 blanks before it: by an answer, a server could hold up all connections of a guest."""
    request, _ = read_request(GET, HOST, 80)
    monkeypatch.setattr(http_heads, "h11", None)
    with pytest.raises(HeadError, match="malformed"):
        read_request(GET[:-2] + b"X:  " + control + b"y\r\n\r\n", HOST, 80)
    with pytest.raises(HeadError, match="response"):
        read_response(b"HTTP/1.1 200 OK\r\nX:  " + control + b"y\r\n\r\n", request)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b"", b"HTTP/1.1 408 Request Timeout\r\n"),
        (GET, b"\x15\x03\x01\0\2\r\n\r\n"),
        (GET, b"ICY 200 OK\r\n\r\n"),
        (GET, b"\r\n" + OK),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"a" * 4094),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 10000),
        (GET, b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_RESPONSE_HEAD_BYTES),
        (GET, OK + b"more"),
        (GET, SWITCHED),
        (UPGRADE, SWITCHED.replace(b"WebSocket", b"h2c")),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (HEAD, OK),
    ],
)
def test_an_answer_that_is_refused(asked: bytes, said: bytes) -> None:
    made = checker()
    if asked:
        made.feed_client(asked)
    with pytest.raises(HttpRefusedError) as refusal:
        made.feed_server(said)
    assert refusal.value.fault is F.RESPONSE
    for feed in (made.feed_client, made.feed_server):
        with pytest.raises(HttpRefusedError, match=r"^response$"):
            feed(b"")


def test_a_websocket() -> None:
    made = checker()
    assert made.feed_client(UPGRADE).requests == (RequestHead("GET", "/chat", "1.1", True),)
    assert made.feed_client(b"\x81\x85") == Passed()
    assert made.feed_server(SWITCHED[:-1]) == Passed()
    assert made.feed_server(b"\n\x81\x02") == passed(b"\x81\x85", SWITCHED + b"\x81\x02")
    assert made.is_tunnel
    assert not settled(made)
    frames = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"
    assert join(made.feed_client(frames).sent) == frames
    assert join(made.feed_server(frames).received) == frames


def test_a_websocket_that_the_server_declines() -> None:
    """What was held is a request like any other."""
    for held, fault in ((GET, None), (request(host="other.example"), F.HOST), (b"\x81\x85", F.MALFORMED)):
        made = checker()
        assert join(made.feed_client(UPGRADE + held).sent) == UPGRADE
        if fault is None:
            assert made.feed_server(OK) == passed(GET, OK, (RequestHead("GET", "/", "1.1", False),))
        else:
            with pytest.raises(HttpRefusedError) as refusal:
                made.feed_server(OK)
            assert (refusal.value.fault, refusal.value.passed) == (fault, passed(b"", OK))
        assert not made.is_tunnel


def test_a_websocket_behind_an_answered_request_with_an_early_hint() -> None:
    made = answered(OK)
    made.feed_client(UPGRADE)
    made.feed_server(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert made.feed_client(b"x") == Passed()
    assert join(made.feed_server(SWITCHED).sent) == b"x"


CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("asked", [BODY, CHUNKED])
def test_a_request_with_content_is_the_last_where_rules_name_requests(asked: bytes) -> None:
    """Both sides are told so, and what follows goes nowhere."""
    made = checker(strict=True)
    first, _, rest = asked.partition(b"\r\n")
    assert join(made.feed_client(GET + asked + GET).sent) == GET + first + b"\r\nConnection: close\r\n" + rest
    assert made.is_client_done
    assert made.feed_client(request(host="other.example")) == Passed()
    answers = OK + b"HTTP/1.1 100 Continue\r\n\r\n"
    assert join(made.feed_server(answers).received) == answers
    assert not made.is_done
    kept = OK.replace(b"\r\n", b"\r\nKeep-Alive: timeout=5\r\nconnection: Keep-Alive,\r\n  Upgrade\r\n", 1)
    assert b"".join(join(made.feed_server(kept[at : at + 1]).received) for at in range(len(kept))) == CLOSE
    assert made.is_done


def test_where_rules_name_nothing_of_requests_no_request_is_the_last() -> None:
    made = checker()
    assert join(made.feed_client(BODY + GET).sent) == BODY + GET
    made.feed_server(OK + OK)
    assert (made.is_client_done, made.is_done) == (False, False)


def test_an_answer_before_the_content_has_passed_is_the_last_too() -> None:
    made = checker(strict=True)
    made.feed_client(BODY[:-2])
    assert not made.is_client_done
    made.feed_server(OK)
    assert made.is_done


def test_an_upgrade_is_the_first_request_where_rules_name_requests() -> None:
    assert join(checker(strict=True).feed_client(UPGRADE).sent) == UPGRADE
    made = checker(strict=True)
    made.feed_client(GET)
    made.feed_server(OK)
    with pytest.raises(HttpRefusedError, match=r"^upgrade$"):
        made.feed_client(UPGRADE)


def test_each_byte_is_of_the_rule_of_its_request() -> None:
    """Those of answers too, however they come: /a is of the rule /a, and so on."""
    paths = ("/a", "/b", "/b", "/a", "/c")
    asked = b"".join(request(first=f"GET {path} HTTP/1.1") for path in paths[:-1]) + BODY.replace(b"/a", b"/c")
    said = (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK) * len(paths)
    for step in (1, 7, 1 << 16):
        made = HttpChecker(HOST, 80, lambda it: it.path, strict=False)
        came = [made.feed_client(asked[at : at + step]) for at in range(0, len(asked), step)]
        came += [made.feed_server(said[at : at + step]) for at in range(0, len(said), step)]
        for path in set(paths):
            sent = b"".join(part.data for one in came for part in one.sent if part.rule == path)
            assert sent.count(b" HTTP/1.1") == sent.count(b" %s HTTP/1.1" % path.encode()) == paths.count(path)
            received = b"".join(part.data for one in came for part in one.received if part.rule == path)
            assert received == (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK) * paths.count(path)
        assert b"".join(join(one.sent) for one in came) == asked


PIECES = st.sampled_from(
    [
        *(GET, BODY, CHUNKED, UPGRADE, OK, SWITCHED, b"\r\n", b"\n", b" ", b":", b"5\r\nhello\r\n", b"0\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\n", b"Host: index.example\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Content-Length: 5\r\n", b"HTTP/1.1 200 OK\r\n", b"Upgrade: websocket\r\n"),
        *(b"Connection: Upgrade\r\n", b"\0", b"\xff"),
    ]
)  # fmt: skip
SAID = st.lists(st.tuples(st.booleans(), PIECES | st.binary(max_size=20)), max_size=12)


@given(SAID)
def test_whatever_is_said_nothing_but_a_refusal_is_raised(said: list[tuple[bool, bytes]]) -> None:
    made = checker(strict=True)
    for by_client, data in said:
        feed: Callable[[bytes], Passed] = made.feed_client if by_client else made.feed_server
        try:
            feed(data)
        except HttpRefusedError:
            continue


@given(st.lists(PIECES, max_size=8).map(b"".join), st.data())
def test_portions_change_nothing(said: bytes, data: st.DataObject) -> None:
    """What passes, and whether the rest is refused; a fault is what is seen first."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=6)) | {0, len(said)})

    strict = data.draw(st.booleans())

    def outcome(parts: list[bytes]) -> tuple[bytes, bool]:
        made, sent = checker(strict=strict), b""
        for part in parts:
            try:
                sent += join(made.feed_client(part).sent)
            except HttpRefusedError as refusal:
                return sent + join(refusal.passed.sent), True
        return sent, False

    whole, parts = outcome([said]), outcome([said[start:end] for start, end in pairwise(cuts)])
    assert parts[1] is whole[1]
    assert parts[0] == whole[0] or (whole[1] and parts[0].startswith(whole[0]))
