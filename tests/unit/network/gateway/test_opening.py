"""By which protocol a connection begins, as far as its first bytes say."""

import pytest

from mvmnix.network.gateway.opening import speaks_http, speaks_tls


@pytest.mark.parametrize(
    ("said", "http", "tls"),
    [
        *((said, True, False) for said in (b"G", b"GET", b"GET / HTTP/1.1", b"M-SEARCH ", b"SSH", b"A" * 32)),
        *((said, False, True) for said in (b"\x16", b"\x16\3\1\0\5\1\0\0\1\3")),
        *(
            (said, False, False)
            for said in (b"get / HTTP/1.1", b"\r\nGET /", b" GET /", b"\5\1\0", b"SSH-2.0-x", b"A" * 33)
        ),
        *(
            (said, False, False)
            for said in (b"GET\t/", b"G\0", b"\x80\x2e\1\3\1", b"*1\r\n$4\r\nPING\r\n", b"EHLO\r\n")
        ),
        *(
            (said, False, False)
            for said in (b"\4\1\1\xbb\0\0\0\1\0api.example.com\0", b"\x15\3\1\0\2\1\0", b"\x17\3\1\0\x32")
        ),
    ],
)
def test_what_a_connection_begins_with(said: bytes, *, http: bool, tls: bool) -> None:
    assert (speaks_http(said), speaks_tls(said)) == (http, tls)
