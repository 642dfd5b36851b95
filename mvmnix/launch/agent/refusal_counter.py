"""Counts the connections of a guest that services refuse: each may be one of a million, so none is logged by itself."""

from collections.abc import Callable, Mapping

from mvmnix.audit.tally import Tally
from mvmnix.launch.agent.port_forward import Handler, ServiceFactory, StreamRefusedError


class _Counted:
    """A service's end of a connection, whose refusal is counted."""

    def __init__(self, handler: Handler, refused: Callable[[], None]) -> None:
        self._handler = handler
        self._refused = refused

    def data(self, data: bytes) -> None:
        self._guarded(lambda: self._handler.data(data))

    def eof(self) -> None:
        self._guarded(self._handler.eof)

    def pull(self, limit: int) -> bytes | None:
        return self._guarded(lambda: self._handler.pull(limit))

    def reset(self) -> None:
        self._handler.reset()

    def _guarded[T](self, call: Callable[[], T]) -> T:
        try:
            return call()
        except StreamRefusedError:
            self._refused()
            raise


def counted_services(services: Mapping[int, ServiceFactory], tally: Tally) -> dict[int, ServiceFactory]:
    """The same services; what one of them refuses is counted under `port-NUMBER-refused`."""

    def wrap(port: int, make: ServiceFactory) -> ServiceFactory:
        return lambda wake: _Counted(make(wake), lambda: tally.count(f"port-{port}-refused"))

    return {port: wrap(port, make) for port, make in services.items()}
