"""Runs the client of a package registry in the sandbox, and takes the files out that it fetched; parses none of them.

1. The client's only way out is a listening socket on its own loopback, which the gateway serves along a route.
2. It fetches into memory of its own. The files that were named, if they are regular ones, come out as bytes on standard
   output; a size stands before each, and neither is trusted: they are read within bounds, and hashed by the caller.
"""

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import IO, Final, Self

from mvmnix.builder.fetch.registries import FILES, INPUT, PROXY_PORT, Command
from mvmnix.builder.fetch.routes import Route
from mvmnix.builder.fetch.socks_proxy import Gateway
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import PYTHON, locate
from mvmnix.system import process

#: Runs in the sandbox: sends its listening socket out, runs the client, writes out the files that were named.
_INSIDE: Final = """
import os, shutil, socket, stat, sys
pair, port, files, given, count = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])
names, argv = sys.argv[6 : 6 + count], sys.argv[6 + count :]
with socket.create_server(("127.0.0.1", port), backlog=64) as listener, socket.socket(fileno=pair) as caller:
    socket.send_fds(caller, [b"."], [listener.fileno()])
os.mkdir(files)
with open(given, "wb") as file:
    shutil.copyfileobj(sys.stdin.buffer, file)
child = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if status < 0:
    print("error: signal %d ended %s" % (-status, argv[0]), file=sys.stderr)
for name in names:
    try:
        fd = os.open(os.path.join(files, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        fd = -1
    size = os.fstat(fd).st_size if fd >= 0 and stat.S_ISREG(os.fstat(fd).st_mode) else -1
    sys.stdout.buffer.write(b"%d\\n" % size)
    if size >= 0:
        with open(fd, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
sys.stdout.buffer.flush()
sys.exit(status if 0 <= status < 124 else 123)
"""
_MIB: Final = 1 << 20
#: A batch is in memory while it is fetched, pip's twice, and on disk from then on.
BOUNDS: Final = Bounds(seconds=3600, room=2560 * _MIB, output=1280 * _MIB, processes=64)
#: Bytes of a line with a size; seconds until the sandbox is set up.
_LINE: Final = 24
_SET_UP: Final = 120
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a client left: its exit status, what it said, what the gateway refused, and files by name."""

    status: int
    said: str
    refusals: tuple[str, ...]
    _argv: tuple[str, ...]
    _output: IO[bytes] = field(repr=False)
    _files: Mapping[str, tuple[int, int]]

    def content(self, name: str) -> Iterator[bytes] | None:
        """The bytes under one of the names, in chunks; None where there is no such file."""
        return self._chunks(*self._files[name]) if name in self._files else None

    def failure(self, hint: str = "") -> process.ProcessError:
        """That the client failed, with all that it said: what another error is raised from."""
        words = "\n".join((self.said, *(f"error: {refusal}" for refusal in self.refusals)))
        return process.ProcessError(process.Completed(self._argv, self.status, b"", words.encode()), hint=hint)

    def _chunks(self, offset: int, size: int) -> Iterator[bytes]:
        end = offset + size
        while chunk := os.pread(self._output.fileno(), min(_CHUNK, end - offset), offset):
            offset += len(chunk)
            yield chunk


@contextmanager
def downloaded(
    command: Command, names: Sequence[str], bounds: Bounds = BOUNDS, *, cancelled: int | None = None
) -> Iterator[Downloaded]:
    """Run a client to its end, whatever that is; `names` are those of the files that are wanted.

    `cancelled` is that of `Sandbox`.
    Raises MvmnixError where there is no sandbox, and process.ProcessError where it takes too long or too much.
    """
    client = (locate(command.program), *command.arguments)
    argv = (str(PROXY_PORT), FILES, INPUT, str(len(names)), *names, *client)
    with tempfile.TemporaryFile(prefix="mvmnix-fetch-") as output:
        with _Way(command.route, bounds.output) as way:
            inherited = way.theirs.fileno()
            sandbox = Sandbox(command.files, command.environment, None, (inherited,), bounds, cancelled)
            try:
                inside = ("-I", "-c", _INSIDE, str(inherited), *argv)
                done = sandbox.run(PYTHON, *inside, output=output, input_=command.input)
            except process.ProcessError as error:
                done = error.done
                if not 0 < done.status < 124:
                    shown = process.Completed(client, done.status, b"", done.stderr)
                    raise process.ProcessError(shown, hints={error.kind: error.hint}, kind=error.kind) from None
        said = done.stderr.decode(errors="replace")
        yield Downloaded(done.status, said, tuple(way.refusals), client, output, _contents(output, names))


class _Way:
    """The way out of one sandbox: it sends us its listening socket, which a gateway serves. A context manager."""

    def __init__(self, route: Route, limit: int) -> None:
        self.theirs, self._ours = socket.socketpair()
        self.refusals: list[str] = []
        self._route, self._limit = route, limit
        self._gateway: Gateway | None = None
        self._thread = Thread(target=self._wait, daemon=True, name="mvm-gateway-start")

    def __enter__(self) -> Self:
        self._ours.settimeout(_SET_UP)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.theirs.close()  # wakes the thread that waits for a sandbox that never came
        self._thread.join()
        self._ours.close()
        if self._gateway is not None:
            self._gateway.__exit__()

    def _wait(self) -> None:
        # before the client runs, our own script sends it; what it may send later is not received
        try:
            _, fds, _, _ = socket.recv_fds(self._ours, 1, 1)
        except OSError:
            return
        if fds:
            # 1. the only way out
            gateway = Gateway(socket.socket(fileno=fds[0]), self._route, self._limit)
            self.refusals = gateway.refusals
            self._gateway = gateway.__enter__()


def _contents(output: IO[bytes], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Where each file is in the output, as far as it is complete: offset and size in bytes."""
    found: dict[str, tuple[int, int]] = {}
    total = os.fstat(output.fileno()).st_size
    output.seek(0)
    for name in names:
        # 2. a size, and so many bytes
        line = output.readline(_LINE)
        if line == b"-1\n":
            continue
        if not line.endswith(b"\n") or not line[:-1].isdigit() or output.tell() + int(line) > total:
            break
        found[name] = (output.tell(), int(line))
        output.seek(int(line), os.SEEK_CUR)
    return found
