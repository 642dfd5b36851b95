"""The worker's first process: makes a process for each lane that mvm opens, and reads nothing else.

A lane's process is forked from one that has read no byte of a server's, and reads those of one origin, stream or kind
of document alone. It can't look into another's memory: none of them is dumpable (prctl(2), PR_SET_DUMPABLE).
"""

import ctypes
import os
import signal
import socket
from typing import Final, assert_never

from mvmnix.builder.fetch.worker.exchange import Fetching, Trust
from mvmnix.builder.fetch.worker.packets import (
    PIECE_BYTES,
    Compression,
    Document,
    PacketKind,
    Work,
    pack,
    send,
    send_all,
    unpack,
    words,
)

_PR_SET_DUMPABLE: Final = 4


def main(control: int, bundle: str) -> None:
    """Serve until mvm hangs up. `control` is a socket on which each packet is one lane: its work, and its end."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended lanes are reaped by the kernel (wait(2), NOTES)
    trust = Trust(bundle)
    with socket.socket(fileno=control) as asked:
        while True:
            data, fds, _, _ = socket.recv_fds(asked, PIECE_BYTES, 1)
            if not fds:
                return
            work, *texts = unpack(data)
            if Work(work) is Work.FETCH and texts[0]:
                trust.prepare()
            if os.fork() == 0:
                asked.close()
                with socket.socket(fileno=fds[0]) as lane:
                    _serve(lane, Work(work), texts, trust)
                os._exit(0)
            os.close(fds[0])


def _serve(lane: socket.socket, work: Work, texts: list[bytes], trust: Trust) -> None:
    """One lane to its end; raises what is a mistake of ours, or BrokenPipeError where mvm hung up."""
    try:
        match work:
            case Work.FETCH:
                host, stall = texts
                Fetching(lane, host.decode(), trust, float(stall)).serve()
            case Work.EXPAND:
                compression, limit = texts
                _expand(lane, Compression(compression.decode()), int(limit))
            case Work.READ:
                (document,) = texts
                _read(lane, Document(document))
            case _:
                assert_never(work)
    except (BrokenPipeError, ConnectionResetError):
        """Mvm has hung up."""


def _expand(lane: socket.socket, compression: Compression, limit: int) -> None:
    from mvmnix.builder.fetch.worker.compression import BadStreamError, Expander  # noqa: PLC0415 - most lanes fetch

    expander = Expander(compression, limit)
    try:
        while packet := lane.recv(PIECE_BYTES + 1):
            if packet[0] == PacketKind.END:
                expander.close()
                send(lane, PacketKind.END)
                return
            for out in expander.feed(packet[1:]):
                if out:
                    send(lane, PacketKind.DATA, out)
            send(lane, PacketKind.NEXT)
    except BadStreamError as error:
        send(lane, PacketKind.MALFORMED, words(str(error)))


def _read(lane: socket.socket, document: Document) -> None:
    from mvmnix.builder.fetch.worker.documents import PARSERS, BadDocumentError  # noqa: PLC0415 - most lanes fetch

    data = bytearray()
    while packet := lane.recv(PIECE_BYTES + 1):
        if packet[0] != PacketKind.END:
            data += packet[1:]
            continue
        try:
            texts = [text.encode() for text in PARSERS[document](bytes(data))]
        except (BadDocumentError, UnicodeEncodeError) as error:  # half a surrogate pair
            send(lane, PacketKind.MALFORMED, words(str(error)))
        else:
            send_all(lane, pack(*texts))
        data.clear()
