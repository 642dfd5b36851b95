"""Opens a terminal in a running machine whose plan grants that; the guest's bytes drive the caller's own."""

import signal
from collections.abc import Mapping
from typing import Final

from mvmnix.api import Call, Shell, Stream, call, open_machine_store
from mvmnix.cli.local_terminal import NOTICE, HangUpKeys, kind, raw_terminal, refuse_none, size
from mvmnix.cli.output import TERMINAL, notice
from mvmnix.cli.stdio import bridged_streams
from mvmnix.errors import MvmnixError

_STREAMS: Final = (Stream.STDIN, Stream.STDOUT)


def run_in_terminal(machine: str, command: tuple[str, ...], variables: Mapping[str, str], directory: str) -> int:
    """Run a command in a terminal in the machine with this id or name, without one the image's shell.

    Returns its exit code, 129 where the user hung up. Raises UsageError without a terminal here, and as `call` does.
    """
    refuse_none()
    ending = _Ending()
    with (
        open_machine_store(TERMINAL) as here,
        bridged_streams(_STREAMS, raw=True, typed=ending.typed) as bridge,
        call(
            here,
            machine,
            Shell(command, *size(), kind(), variables, directory, bridge.streams),
            bridge.descriptors,
        ) as it,
    ):
        ending.call = it
        notice(NOTICE)
        with raw_terminal(it.resize) as attend:
            bridge.begin()
            attend(it.fileno())
            try:
                status = it.wait()
            except MvmnixError:
                if not ending.happened:
                    raise
                status = None
            bridge.finish()
    if status is None:
        notice("hung up")
        return 128 + signal.SIGHUP
    if why := status.explain(command[0] if command else "the image's shell"):
        notice(why)
    return status.exit_code


class _Ending:
    """Ends the command when the keys that hang up are typed."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.happened = False
        self._keys = HangUpKeys()

    def typed(self, data: bytes) -> None:
        """So much was typed; called by the thread that reads the terminal."""
        if not self._keys.are_in(data):
            return
        self.happened = True
        if self.call is not None:
            self.call.hang_up()
