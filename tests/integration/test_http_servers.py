"""The rows of HTTP against nginx, Apache and Node: none of them sees a request that wasn't judged.

Python's own server has a test without a process (tests/unit/network/gateway/test_http_rows.py).
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import EVENT_PATIENCE, until
from tests.repository import ROOT
from tests.unit.network.http_rows import ROWS, Row
from tests.unit.network.http_seen import Seen, try_row

pytestmark = pytest.mark.integration

_NGINX = """
daemon off; master_process off; pid PLACE/pid; error_log PLACE/error;
events { }
http {
  log_format seen '$request_method $uri $http_host'; access_log PLACE/seen seen;
  client_body_temp_path PLACE/t1; proxy_temp_path PLACE/t2; fastcgi_temp_path PLACE/t3; uwsgi_temp_path PLACE/t4;
  scgi_temp_path PLACE/t5;
  # what is seen is written down before a client sees the end
  lingering_close off;
  server { listen 127.0.0.1:PORT; location / { return 200 "ok"; } }
}
"""
_APACHE = """
ServerRoot PLACE
ServerName a.test
DefaultRuntimeDir PLACE
PidFile PLACE/pid
ErrorLog PLACE/error
Listen 127.0.0.1:PORT
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
StartServers 1
ThreadsPerChild 4
ServerLimit 1
MaxRequestWorkers 4
<IfModule unixd_module>
  User www-data
  Group www-data
</IfModule>
DocumentRoot PLACE
TraceEnable extended
LogFormat "%m %U %{Host}i" seen
CustomLog PLACE/seen seen
"""
_NODE = """
const fs = require("node:fs"), http = require("node:http");
http.createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://a.test").pathname);
  fs.appendFileSync("PLACE/seen", `${request.method} ${path} ${request.headers.host}\\n`);
  response.end("ok");
}).listen(PORT, "127.0.0.1");
"""
#: A file of settings, and the program that is given its path.
SERVERS = {
    "nginx": (_NGINX, ("/usr/sbin/nginx", "-e", "PLACE/error", "-c")),
    "apache": (_APACHE, ("/usr/sbin/apache2", "-X", "-f")),
    "node": (_NODE, (f"{shutil.which('node', path=f'{ROOT}/.venv/npm:{os.environ["PATH"]}')}",)),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """One of them at a port of the loopback, which is chosen again if another program takes it first."""
    settings, argv = SERVERS[request.param]
    place = tmp_path_factory.mktemp(request.param)
    (place / "seen").touch()
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    (place / "settings").write_text(settings.replace("PLACE", str(place)).replace("PORT", str(port)))
    words = [word.replace("PLACE", str(place)) for word in (*argv, f"{place}/settings")]
    with (place / "said").open("wb") as said, subprocess.Popen(words, stdout=said, stderr=said) as process:
        try:
            _await(process, port, place)
            yield Seen(
                lambda: socket.create_connection(("127.0.0.1", port), EVENT_PATIENCE),
                lambda: (place / "seen").read_text().splitlines(),
            )
        finally:
            process.terminate()


def _await(process: "subprocess.Popen[bytes]", port: int, place: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, (place / "said").read_text()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), EVENT_PATIENCE):
            return True
        return False

    until(answers, (place / "said").read_text)


@pytest.mark.parametrize("row", [it for it in ROWS if it.seen], ids=lambda it: it.tried)
def test_a_server_sees_nothing_but_what_was_judged(server: Seen, row: Row) -> None:
    seen = try_row(row, server)
    assert seen == list(row.seen[: len(seen)])
    assert seen, "it is told of what is allowed"
