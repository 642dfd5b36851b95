"""Rows of what a guest says in HTTP, with the verdict that it has to have, and what a server may see of it.

Each is one way in which rules about requests failed elsewhere, or could fail. They are driven by http_port.py, against
a server of the test's own (test_http_rows.py) and those that people run (tests/integration/test_http_servers.py).
"""

from dataclasses import dataclass
from itertools import product

from mvmnix.network.policy.decisions import Denial

API, PATHS, WILD = "api.example.com", "www.example.com", "a.wild.example.com"
#: By how rules name requests: a host, and the rule or the denial that does.
NAMING = {
    "method.example.com": "methods",
    "path.example.com": "path",
    "not-method.example.com": "not-method",
    "not-path.example.com": "not-path",
}
_WITHOUT_CONTENT = ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE")
ALLOW = (
    f"http://{API},id=api",
    f"http://{PATHS}/simple,method=GET,method=HEAD,id=paths",
    "http://*.wild.example.com,id=wild",
    f"http://method.example.com,{','.join(f'method={it}' for it in (*_WITHOUT_CONTENT, 'POST'))},id=methods",
    "http://path.example.com/simple,id=path",
    "http://not-method.example.com,id=all",
    "http://not-path.example.com,id=also-all",
)
DENY = (
    f"http://{PATHS}/simple/secret,id=secret",
    "http://not-method.example.com,method=PATCH,id=not-method",
    "http://not-path.example.com/secret,id=not-path",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What is said, portion by portion; the rule and the code ("": allowed); and what a server may see, at the most.

    `seen` has a line for each request: its method, its path as the server reads it, and its Host.
    """

    tried: str
    said: tuple[bytes, ...]
    rule: str
    code: str = ""
    seen: tuple[str, ...] = ()
    host: str = API


def get(*lines: str, path: str = "/", host: str = API, method: str = "GET", body: bytes = b"") -> bytes:
    """A request."""
    head = (f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *lines, "", "")
    return "\r\n".join(head).encode("latin-1") + body


#: A request that no rule allows.
EVIL = get("Content-Length: 0", path="/secret/evil", host="evil.example.org", method="POST")
_CHUNKED = "Transfer-Encoding: chunked"
_LENGTH = f"Content-Length: {len(EVIL)}"
_IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVIL), EVIL)
_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")


def _passes(tried: str, said: bytes, path: str = "/", *, rule: str = "api", host: str = API) -> Row:
    method = said.partition(b" ")[0].decode()
    name = said.partition(b"Host: ")[2].partition(b"\r\n")[0].decode()
    return Row(tried, (said,), rule, seen=(f"{method} {path} {name}",), host=host)


def _bad(tried: str, said: bytes, code: Denial = Denial.BAD_HTTP, *, rule: str = "api", host: str = API) -> Row:
    return Row(tried, (said,), rule, code, host=host)


def _host(tried: str, said: bytes, *, rule: str = "api", host: str = API) -> Row:
    return _bad(tried, said, Denial.HOST_MISMATCH, rule=rule, host=host)


def _path(tried: str, path: str, rule: str = "secret", code: Denial = Denial.PATH, method: str = "GET") -> Row:
    return _bad(tried, get(path=path, host=PATHS, method=method), code, rule=rule, host=PATHS)


FIRST = (
    _passes("a request", get()),
    _passes("the port in its Host", get(host=f"{API}:80")),
    _passes("capitals in its Host", get(host="API.Example.Com")),
    _passes("a body", get("Content-Length: 5", method="POST", body=b"hello")),
    _passes("a body in chunks", get(_CHUNKED, method="POST", body=b"5\r\nhello\r\n0\r\n\r\n")),
    _passes("below a wildcard", get(host=WILD), rule="wild", host=WILD),
    _passes("an allowed path", get(path="/simple/x?y=/../z", host=PATHS), "/simple/x", rule="paths", host=PATHS),
    _passes("escapes", get(path="/simple/%78%20y", host=PATHS), "/simple/x y", rule="paths", host=PATHS),
    _passes("parameters", get(path="/simple/a;b=c/d", host=PATHS), "/simple/a;b=c/d", rule="paths", host=PATHS),
    _passes("escaped parameters", get(path="/simple/a%3Bb", host=PATHS), "/simple/a;b", rule="paths", host=PATHS),
    _passes(
        "punctuation",
        get(path="/simple/~a!$&()*+,=:@-", host=PATHS),
        "/simple/~a!$&()*+,=:@-",
        rule="paths",
        host=PATHS,
    ),
    _passes("HTTP/1.0", get().replace(b"HTTP/1.1", b"HTTP/1.0")),
    _passes("content of no bytes", get("Content-Length: 0")),
    _passes("to be continued", get("Expect: 100-continue", "Content-Length: 5", method="POST", body=b"hello")),
    _passes("a WebSocket that is declined", get(*_UPGRADE)),
    _passes("fields of all kinds", get("TE: trailers", "Connection: TE, close", "X:", "X_Y: \xe4")),
    Row(
        "three at once",
        (get() + get(path="/b") + get(),),
        "api",
        seen=(f"GET / {API}", f"GET /b {API}", f"GET / {API}"),
    ),
    # what is refused by a head alone: gateway/test_http_checker.py has each way to that
    _host("another Host", get(host="evil.example.org")),
    _host("another allowed Host", get(host=PATHS)),
    _host("another Host below the same wildcard", get(host="b.wild.example.com"), rule="wild", host=WILD),
    _bad("a URL of another host, as a client of a proxy", get(path="http://evil.example.org/")),
    _bad("Content-Length and Transfer-Encoding", get("Content-Length: 4", _CHUNKED, body=b"0\r\n\r\n")),
    _bad("an upgrade to h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A")),
    _bad("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    _bad("a head without an end", get(*(f"X-{it}: {'x' * 1000}" for it in range(40)))),
    # paths and methods
    _path("another path", "/", "paths"),
    _path("a path that begins alike", "/simplex", "paths"),
    _path("another path in capitals", "/SIMPLE", "paths"),
    *(
        _path(f"the path {path}", path)
        for path in (
            *("/simple/../admin", "/simple/%2e%2E/admin", "/simple/..%2fadmin", "/simple/..\\admin", "/simple//admin"),
            *("/simple/..;/admin", "/simple/..;x=y/admin", "/simple/..%3b/admin", "/simple/..%20/admin"),
            *("/simple/.../admin", "/simple/..%09/admin", "/simple/.%00./admin", "/simple/..,/admin", "/simple/..+/x"),
            *("/simple/..%3F/admin", "/simple/..%23/admin", "/simple/..%C2%A0/admin", "/simple/.%E2%80%8B./admin"),
            *("/simple/%c0%ae%c0%ae/admin", "/simple/%ff", "/simple/%e2%80", "/simple/%ed%a0%80"),
            *("/simple/%EF%BC%8E%EF%BC%8E/admin", "/simple/%E2%80%A5/admin", "/simple/..%EF%BC%8Fadmin"),
            *("/simple/;/admin", "/simple/%3Bx/admin", "/simple/%20/admin"),
            *("/simple/..%EF%BC%BCadmin", "/simple/%EF%BC%852e/admin", "/simple/..%EF%BC%9B/admin", "/simple/%C2%85"),
        )
    ),
    *(
        _path(f"the denied path {path}", path, code=Denial.DENIED_BY_RULE)
        for path in (
            *("/simple/secret", "/simple/%73ECRET/x", "/simple/secret;x", "/simple/secret.", "/simple/secret%20"),
            *("/simple/secret%3Fx", "/simple/secret%23x", "/simple/secret::$DATA", "/simple/%EF%BD%93ecret"),
            *("/simple/%C5%BFecret", "/simple/sec%C2%ADret"),
        )
    ),
    _path("another method", "/simple", "paths", Denial.METHOD, "DELETE"),
    _path("a method of this client's own", "/simple", "paths", Denial.METHOD, "GETX"),
)

_SEEN = f"GET / {API}"
#: What follows an allowed request over the same connection.
_LATER = {
    "another Host": (get(path="/evil", host="evil.example.org"), Denial.HOST_MISMATCH, ()),
    "another allowed Host": (get(host=PATHS), Denial.HOST_MISMATCH, ()),
    "a URL of another host": (get(path="http://evil.example.org/"), Denial.BAD_HTTP, ()),
    "CONNECT": (get(path="evil.example.org:443", method="CONNECT"), Denial.BAD_HTTP, ()),
    "two lengths": (get("Content-Length: 5", "Content-Length: 6", body=b"hello!"), Denial.BAD_HTTP, ()),
    "h2c": (get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"), Denial.BAD_HTTP, ()),
    "a body that is no request's": (b"hello, world\r\n", Denial.BAD_HTTP, ()),
}
LATER = tuple(
    Row(f"{tried} {'at once' if at_once else 'later'}", said, "api", code, (_SEEN, *more))
    for tried, (second, code, more) in _LATER.items()
    for at_once, said in ((True, (get() + second,)), (False, (get(), second)))
)


def _naming(tried: str, host: str, said: bytes, code: Denial) -> Row:
    return _bad(f"{tried} at {host}", said, code, rule=NAMING[host], host=host)


#: Fields that some frameworks take a method, a path, a second path or a host from.
OVERRIDES = (
    *("X-HTTP-Method: DELETE", "X-HTTP-Method-Override: DELETE", "X-Method-Override: DELETE"),
    *("X-Forwarded-Method: DELETE", "X-Original-URL: /secret", "X-Rewrite-URL: /secret", "X-Original-URI: /secret"),
    *("X-Override-URL: /secret", "X-Forwarded-Uri: /secret", "SCRIPT_NAME: /simple", "Path-Info: /secret"),
    *("X-Script-Name: /simple", "X-Forwarded-Prefix: /simple", "X-Forwarded-Path: /secret", "Destination: /secret"),
    *("Forwarded: host=b.example", "X-Forwarded-Host: b.example", "X-Host: b.example", "X-Original-Host: b.example"),
    *("X-HTTP-Host-Override: b.example", "X-Forwarded-Server: b.example", "X-Original-Method: DELETE"),
    *("x_http_method_override: DELETE", "X.Original.URL: /secret", "X-HTTP_Method-OVERRIDE: DELETE"),
)
_PARAMETERS = (
    "_method=DELETE",
    "a=b&%5Fmethod=DELETE",
    "a;_METHOD=x",
    "+.method=DELETE",
    "_method%00x=DELETE",
    "_method",
)
CONTENT = tuple(
    _naming(
        f"{method} with content, {line}, {len(body)} bytes",
        host,
        get(line, path="/simple/x", host=host, method=method, body=body),
        Denial.CONTENT,
    )
    for host, method, (line, body) in product(
        NAMING, _WITHOUT_CONTENT, ((_LENGTH, EVIL), (_CHUNKED, _IN_CHUNKS), (_CHUNKED, b"0\r\n\r\n"))
    )
)
OVERRIDE = (
    *(
        _naming(it, host, get(it, "Content-Length: 0", path="/simple/x", host=host, method="POST"), Denial.OVERRIDE)
        for host, it in product(NAMING, OVERRIDES)
    ),
    *(
        _naming(f"the query {it}", host, get(path=f"/simple/x?{it}", host=host), Denial.OVERRIDE)
        for host, it in product(NAMING, _PARAMETERS)
    ),
)
#: Content that a server may leave unread, at hosts where rules name requests: nothing in it or behind it is a request.
LAST = tuple(
    Row(f"{tried} at {host}", said, {"not-method": "all", "not-path": "also-all"}.get(rule, rule), "", seen, host)
    for host, rule in NAMING.items()
    for first, earlier in (((), ()), ((get(path="/simple/0", host=host),), (f"GET /simple/0 {host}",)))
    for keeps in ("X: y", "Connection: keep-alive", "connection: Keep-Alive, TE", "Keep-Alive: timeout=5")
    for tried, said, seen in (
        (
            f"a request in a body, and one behind it, {keeps}, {len(first)} before it",
            (*first, get(_LENGTH, keeps, path="/simple/x", host=host, method="POST", body=EVIL + EVIL)),
            (*earlier, f"POST /simple/x {host}"),
        ),
        (
            f"a request in chunks, and one behind them, {keeps}, {len(first)} before it",
            (*first, get(keeps, _CHUNKED, path="/simple/x", host=host, method="POST", body=_IN_CHUNKS + EVIL)),
            (*earlier, f"POST /simple/x {host}"),
        ),
    )
)
UPGRADES = tuple(
    Row(f"an upgrade behind a request at {host}", (get(path="/simple/0", host=host), upgrade), rule, code, seen, host)
    for host in NAMING
    for upgrade in (get(*_UPGRADE, path="/simple/x", host=host),)
    for rule in ({"not-method": "all", "not-path": "also-all"}.get(NAMING[host], NAMING[host]),)
    for code, seen in ((Denial.BAD_HTTP, (f"GET /simple/0 {host}",)),)
)
#: Where no rule names a method or a path, none of this is refused.
ELSEWHERE = (
    *(_passes(f"{it}, where no rule names requests", get(it)) for it in OVERRIDES),
    _passes("a parameter, where no rule names requests", get(path="/?_method=DELETE")),
)
ROWS = (*FIRST, *LATER, *CONTENT, *OVERRIDE, *LAST, *UPGRADES, *ELSEWHERE)
