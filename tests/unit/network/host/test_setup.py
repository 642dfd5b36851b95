"""A machine's network of a namespace and two processes, which the test plays: all of them or none, until it ends."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self, cast

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.network.host import namespace, setup
from mvmnix.network.host.setup import (
    DIALER_MEMORY,
    GATEWAY_MEMORY,
    MachineNetwork,
    NetworkProcess,
    code_directories,
    resolver_settings,
)
from mvmnix.network.sockets import PACKET_BYTES
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind, network_bytes
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.profiles.network import DIALER_SERVING, GATEWAY_SERVING
from mvmnix.sandbox.profiles.profile import Profile
from mvmnix.system.loop import Loop
from mvmnix.system.process import Completed, ProcessError
from mvmnix.vmm.confinement import Jail, NetworkService
from mvmnix.vmm.port import Invocation
from mvmnix.vmm.process import JailedProcess
from tests.descriptors import nothing_left_open
from tests.unit.network.processes import process_ids

_NETWORK = Network(parse_rules(["https://api.example.com"], []))
_READY = NetworkEvent(NetworkEventKind.READY)


class PlayedProcess:
    """What would run in a sandbox: the test has its ends of the conversations."""

    made: ClassVar[list["PlayedProcess"]]
    #: The name of the process that can't be made, and the one whose can't be started.
    unmade = unstarted = ""

    def __init__(self, _jail: Jail, name: str, service: NetworkService) -> None:
        if name == self.unmade:
            raise MvmnixError("no sandbox")
        self.name, self.service, self.calls = name, service, list[str]()
        self.pid: int | None = None
        self.last_words: tuple[str, ...] = ()
        self.given: tuple[int, ...] = ()
        self.ended: Callable[[], None] = lambda: None
        self.made.append(self)

    def start(self, descriptors: tuple[int, ...]) -> None:
        if self.name == self.unstarted:
            raise OSError("no process")
        self.given = tuple(map(os.dup, descriptors))
        self.pid = 1000 + len(descriptors)

    @property
    def supervisor(self) -> socket.socket:
        """Its end of the conversation with the supervisor, which is the last that it is given."""
        return socket.socket(fileno=os.dup(self.given[-1]))

    def watch(self, _loop: Loop, ended: Callable[[], None]) -> None:
        self.calls.append("watch")
        self.ended = ended

    def forget(self, _loop: Loop) -> None:
        self.calls.append("forget")

    def kill_soon(self) -> None:
        self.calls.append("kill")
        self._end()

    def failure(self) -> ProcessError | None:
        done = Completed((self.name,), 1, b"", b"")
        return ProcessError(done) if self.last_words else None

    def close(self) -> None:
        self.calls.append("close")
        self._end()

    def _end(self) -> None:
        for fd in self.given:
            os.close(fd)
        self.given = ()


class PlayedMaking:
    """A namespace that is being made."""

    made: ClassVar[list["PlayedMaking"]]

    def __init__(self, taken: object, *, inbound: int) -> None:
        self.inbound, self.calls = inbound, list[str]()
        self.made.append(self)

    def finish(self) -> namespace.Namespace:
        self.calls.append("finish")
        self.sockets = [socket.socket() for _ in range(5)]
        self.tap = os.open("/dev/null", os.O_RDONLY)
        connections, questions, datagrams, refused, inbound = self.sockets
        return namespace.Namespace(self.tap, connections, questions, datagrams, refused, (inbound,))

    def abandon(self) -> None:
        self.calls.append("abandon")


@dataclass
class Watched:
    """A network that was started, by a loop."""

    network: MachineNetwork
    loop: Loop = field(default_factory=Loop)
    told: list[NetworkEvent] = field(default_factory=list)
    ended: list[None] = field(default_factory=list)

    @classmethod
    def started(cls) -> Self:
        network = ready()
        network.start()
        self = cls(network)
        network.watch(self.loop, self.told.append, lambda: self.ended.append(None))
        return self

    def close(self) -> None:
        self.network.kill_soon()
        self.network.close(self.loop)
        self.loop.close()

    def turn(self) -> None:
        self.loop.turn(0)


def ready(network: Network = _NETWORK) -> MachineNetwork:
    return MachineNetwork(network, cast("Jail", None))


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    PlayedProcess.made, PlayedMaking.made = [], []
    monkeypatch.setattr(setup, "NetworkProcess", PlayedProcess)
    monkeypatch.setattr(namespace, "Making", PlayedMaking)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched.started()
    yield made
    made.close()


@pytest.fixture
def descriptors() -> Iterator[None]:
    """None is left open."""
    with nothing_left_open():
        yield


def _processes() -> tuple[PlayedProcess, PlayedProcess]:
    gateway, dialer = PlayedProcess.made
    return gateway, dialer


@pytest.mark.usefixtures("descriptors")
def test_each_process_has_what_is_its_own() -> None:
    network = ready()
    gateway, dialer = _processes()
    assert (gateway.name, dialer.name) == ("gateway", "dialer")
    assert (gateway.service.dials, dialer.service.dials) == (False, True)
    assert (gateway.service.memory, dialer.service.memory) == (GATEWAY_MEMORY, DIALER_MEMORY)
    assert (dict(gateway.service.settings), "/etc/resolv.conf" in dialer.service.settings) == ({}, True)
    assert set(gateway.service.code) - set(dialer.service.code) == {"/code/dns", "/code/h11"}
    assert [*process_ids(network)] == []
    network.start()
    assert (len(gateway.given), len(dialer.given)) == (7, 3)
    assert [*process_ids(network)] == [1007, 1003]
    for one in (gateway, dialer):
        with os.fdopen(os.dup(one.given[0]), "rb") as rules:
            assert rules.read() == network_bytes(_NETWORK)
    (making,) = PlayedMaking.made
    assert [it.fileno() for it in making.sockets[:4]] == [-1] * 4, "they are the gateway's alone"
    asking, asked = (socket.socket(fileno=os.dup(fd)) for fd in (gateway.given[-2], dialer.given[-2]))
    with asking, asked:
        asking.send(b"ask")
        assert asked.recv(PACKET_BYTES) == b"ask"
    network.close()
    assert (gateway.calls, dialer.calls) == (["close"], ["close"])
    network.close()
    assert making.sockets[4].fileno() == -1


def test_a_network_without_ports_has_no_sockets_for_connections_into_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "listen", lambda _: ())
    for plan in (Network(_NETWORK.rules, (PublishedPort.parse("8080:80"),)), _NETWORK):
        ready(plan).close()
    assert [it.inbound for it in PlayedMaking.made] == [namespace.INBOUND, 0]


@pytest.mark.usefixtures("descriptors")
def test_the_device_is_the_hypervisors_once() -> None:
    network = ready()
    attachment = network.attachment
    assert attachment.tap == PlayedMaking.made[0].tap == network.attachment.tap
    network.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(attachment.tap)
    with pytest.raises(ValueError, match="the hypervisor's already"):
        _ = network.attachment
    network.release()
    network.close()
    assert PlayedMaking.made[0].calls == ["finish"]


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("module", ["gateway", "dialer"])
def test_where_one_can_not_be_made_or_started_there_is_none(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlayedProcess, "unmade", module)
    with pytest.raises(MvmnixError, match="no sandbox"):
        ready()
    assert PlayedMaking.made[0].calls == ["abandon"]
    assert [it.calls for it in PlayedProcess.made] == [["close"]] * (module == "dialer")
    monkeypatch.setattr(PlayedProcess, "unmade", "")
    monkeypatch.setattr(PlayedProcess, "unstarted", module)
    network = ready()
    with pytest.raises(OSError, match="no process"):
        network.start()
    network.close()


def test_what_was_closed_is_not_started() -> None:
    network = ready()
    network.close()
    with pytest.raises(ValueError, match="isn't ready"):
        network.start()
    with pytest.raises(ValueError, match="isn't ready"):
        _ = network.attachment
    assert (process_ids(network), network.last_words, network.failure(), network.is_starting) == ((), (), None, False)


def test_it_has_started_once_both_serve(watched: Watched) -> None:
    gateway, dialer = _processes()
    for one in (gateway, dialer):
        assert watched.network.is_starting
        with one.supervisor as end:
            end.send(_READY.to_bytes())
        watched.turn()
    assert not watched.network.is_starting
    assert (watched.told, watched.ended) == ([_READY] * 2, [])


def test_so_many_events_are_read_at_a_time(watched: Watched) -> None:
    gateway, dialer = _processes()
    event = NetworkEvent(NetworkEventKind.NAME)
    with gateway.supervisor as end, dialer.supervisor as other:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(257):
            end.send(event.to_bytes())
        other.send(_READY.to_bytes())
        watched.turn()
        assert watched.told.count(event) == 256
        assert _READY in watched.told, "each has its turn"
        watched.turn()
    assert watched.told.count(event) == 257


@pytest.mark.parametrize(
    "packets",
    [[b"nonsense"], [NetworkEvent(NetworkEventKind.BREACH, code="no-rule").to_bytes()], None],
    ids=["nonsense", "breach", "its end"],
)
@pytest.mark.parametrize("of", [0, 1], ids=["gateway", "dialer"])
def test_the_end_of_one_is_the_end_of_both(watched: Watched, of: int, packets: list[bytes] | None) -> None:
    one = PlayedProcess.made[of]
    with one.supervisor as end:
        for packet in packets or ():
            end.send(packet)
        if packets is None:
            end.shutdown(socket.SHUT_WR)
        else:
            end.send(NetworkEvent(NetworkEventKind.NAME).to_bytes())
    for _ in range(3):
        watched.turn()
    assert watched.ended == [None]
    assert not watched.network.is_starting
    is_breach = packets is not None and len(packets[0]) > 8 and of == 1
    assert [it.kind for it in watched.told] == ([NetworkEventKind.BREACH] if is_breach else [])
    for each in _processes():
        assert each.calls == ["watch", "kill"]
        each.ended()
    assert watched.ended == [None], "told once"


def test_what_they_complained_of_is_told(watched: Watched) -> None:
    _, dialer = _processes()
    assert (watched.network.last_words, watched.network.failure()) == ((), None)
    dialer.last_words = ("MemoryError", "end")
    assert watched.network.last_words == ("dialer: MemoryError", "dialer: end")
    assert isinstance(watched.network.failure(), ProcessError)


def test_a_port_is_free_again_once_the_gateway_is_done_with_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = list[int]()

    def give_back(slot: int) -> bool:
        given_back.append(slot)
        return True

    monkeypatch.setattr(watched.network, "_give_back", give_back)
    gateway, _ = _processes()
    with gateway.supervisor as end:
        end.send(NetworkEvent(NetworkEventKind.INBOUND_CLOSED, slot=7).to_bytes())
        end.send(NetworkEvent(NetworkEventKind.NAME, slot=8).to_bytes())
        watched.turn()
    assert given_back == [7]


def test_the_gateway_is_handed_both_ends(watched: Watched) -> None:
    gateway, _ = _processes()
    near, far = socket.socketpair()
    with near, far, gateway.supervisor as end:
        watched.network._hand_over(HandedOver(3, 80), near, far)
        packet, fds, _, _ = socket.recv_fds(end, PACKET_BYTES, 3)
        assert (HandedOver.parse(packet), len(fds)) == (HandedOver(3, 80), 2)
        client, guest = (socket.socket(fileno=fd) for fd in fds)
        with client, guest:
            client.send(b"x")
            assert far.recv(1) == b"x"


def test_what_a_gateway_tells_last_is_heard() -> None:
    watched = Watched.started()
    gateway, dialer = _processes()
    event = NetworkEvent(NetworkEventKind.NAME, name="a.example")
    with gateway.supervisor as end, dialer.supervisor as other:
        for one in (end, other):
            one.send(_READY.to_bytes())
        for _ in range(2):
            watched.turn()
        end.send(event.to_bytes())
        end.shutdown(socket.SHUT_WR)
        watched.network.close(watched.loop)
        assert end.recv(1) == b"", "it was asked to end"
    assert watched.told == [_READY, _READY, event]
    assert [it.calls for it in _processes()] == [["watch", "forget", "close"], ["watch", "forget", "close", "close"]]
    watched.network.close(watched.loop)
    watched.loop.close()


@pytest.mark.parametrize("why", ["it never served", "it is gone", "nobody watches"])
def test_nobody_waits_for_a_gateway_that_tells_nothing(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineNetwork, "_hear_out", lambda *_: pytest.fail("waited"))
    watched = Watched.started()
    gateway, dialer = _processes()
    if why != "it never served":
        for one in (gateway, dialer):
            with one.supervisor as end:
                end.send(_READY.to_bytes())
        watched.turn()
    if why == "it is gone":
        gateway.pid = None
    watched.network.close(None if why == "nobody watches" else watched.loop)
    watched.loop.close()


def test_a_gateway_that_does_not_end_has_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_LAST", 0.05)
    watched = Watched.started()
    for one in _processes():
        with one.supervisor as end:
            end.send(_READY.to_bytes())
    watched.turn()
    watched.network.close(watched.loop)
    watched.loop.close()


# -- what each of them may tell, and connections by the dialer's word

_OPENED = NetworkEvent(
    NetworkEventKind.OPENED, rule="allow-1", name="api.example.com", address="192.0.2.1", port=443, connection=1
)
_LOGGED = replace(_OPENED, protocol="https")
_CLOSED = replace(_OPENED, kind=NetworkEventKind.CLOSED, sent=3)


def _tell(of: int, *events: NetworkEvent) -> None:
    with PlayedProcess.made[of].supervisor as end:
        for event in events:
            end.send(event.to_bytes())


_OURS = (NetworkEventKind.INBOUND, NetworkEventKind.FORGED, NetworkEventKind.UNREPORTED)
_NOT_THEIRS = {
    0: (*_OURS, NetworkEventKind.BREACH),
    1: (
        *(*_OURS, NetworkEventKind.NAME, NetworkEventKind.CLOSED, NetworkEventKind.DENIED),
        NetworkEventKind.INBOUND_CLOSED,
    ),
}


@pytest.mark.parametrize(("of", "kind"), [(of, kind) for of, kinds in _NOT_THEIRS.items() for kind in kinds])
def test_none_tells_what_is_the_others(watched: Watched, of: int, kind: NetworkEventKind) -> None:
    _tell(of, NetworkEvent(kind))
    watched.turn()
    assert (watched.told, watched.ended) == ([], [None])


@pytest.mark.parametrize("of", [0, 1], ids=["gateway", "dialer"])
def test_none_tells_of_a_rule_that_the_plan_has_not(watched: Watched, of: int) -> None:
    _tell(of, replace(_OPENED, rule="allow-2"))
    watched.turn()
    assert (watched.told, watched.ended) == ([], [None])


def test_a_connection_is_told_once_by_the_dialers_word(watched: Watched) -> None:
    _tell(1, _OPENED)
    watched.turn()
    assert watched.told == [_LOGGED]
    _tell(0, _OPENED, _CLOSED)
    watched.turn()
    assert watched.told == [_LOGGED, replace(_CLOSED, protocol="https")]
    watched.network.close(watched.loop)
    assert len(watched.told) == 2


def test_the_dialer_is_heard_before_a_report_is_judged(watched: Watched) -> None:
    """The gateway's socket is read first, and much is told at once."""
    many = [replace(_OPENED, connection=number) for number in range(40)]
    _tell(0, *many)
    _tell(1, *many)
    watched.turn()
    assert {it.kind for it in watched.told} == {NetworkEventKind.OPENED}
    assert (len(watched.told), watched.ended) == (40, [])


def test_a_connection_that_the_gateway_hides_is_told(watched: Watched) -> None:
    _tell(1, _OPENED)
    watched.network.close(watched.loop)
    assert watched.told == [_LOGGED, replace(_LOGGED, kind=NetworkEventKind.UNREPORTED)]


def test_a_connection_that_the_gateway_forges_is_its_end(watched: Watched) -> None:
    _tell(0, _OPENED, NetworkEvent(NetworkEventKind.NAME))
    watched.turn()
    assert watched.told == [replace(_OPENED, kind=NetworkEventKind.FORGED)]
    assert watched.ended == [None]
    watched.network.close(watched.loop)
    assert len(watched.told) == 1, "it isn't heard any more"


def test_an_end_of_a_connection_into_the_guest_that_is_not_there_is_forged(watched: Watched) -> None:
    _tell(0, NetworkEvent(NetworkEventKind.INBOUND_CLOSED, slot=3))
    watched.turn()
    assert [it.kind for it in watched.told] == [NetworkEventKind.FORGED]
    assert watched.ended == [None]


def test_what_a_dialer_connected_behind_a_breach_is_told(watched: Watched) -> None:
    _tell(1, NetworkEvent(NetworkEventKind.BREACH), _OPENED, replace(_OPENED, connection=2))
    watched.turn()
    assert watched.ended == [None]
    watched.network.close(watched.loop)
    kinds = [it.kind for it in watched.told]
    assert kinds == [NetworkEventKind.BREACH, *[NetworkEventKind.OPENED] * 2, *[NetworkEventKind.UNREPORTED] * 2]


# -- its processes


class PlayedSandbox:
    """A sandbox and the process in it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def network(self, _service: NetworkService) -> "PlayedSandbox":
        return self

    def release(self) -> None:
        self.calls.append("release")

    def close(self) -> None:
        self.calls.append("close")


@pytest.mark.parametrize(("module", "profile"), [("gateway", GATEWAY_SERVING), ("dialer", DIALER_SERVING)])
def test_a_process_serves_under_its_own_filter(module: str, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[tuple[Invocation, bytes]]()
    sandbox = PlayedSandbox()

    def spawn(invocation: Invocation, given: tuple[int, ...], _sandbox: object) -> PlayedSandbox:
        assert given[1:] == (7, 8)
        started.append((invocation, Path(f"/proc/self/fd/{given[0]}").read_bytes()))
        return sandbox

    monkeypatch.setattr(JailedProcess, "spawn", spawn)
    service = NetworkService("/python", {}, {}, 1, 1, dials=module == "dialer")
    process = NetworkProcess(cast("Jail", sandbox), module, service)
    process.start((7, 8))
    ((invocation, filter_),) = started
    assert filter_ == seccomp.program(profile)
    assert invocation.argv[:4] == ("/python", "-I", "-S", "-c")
    assert f"from mvmnix.network.{module}.process import main" in invocation.argv[4]
    assert invocation.argv[6:] == ("7", "8")
    process.close()
    assert sandbox.calls == ["close"]


def test_a_sandbox_without_a_process_is_released() -> None:
    sandbox = PlayedSandbox()
    NetworkProcess(cast("Jail", sandbox), "gateway", NetworkService("", {}, {}, 1, 1, dials=False)).close()
    assert sandbox.calls == ["release"]


def test_code_is_a_directory_of_each_library() -> None:
    found = code_directories("h11")
    assert found.keys() == {"/code/mvmnix", "/code/h11"}
    for name, fd in found.items():
        assert os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == name.removeprefix("/code/")  # noqa: PTH119, PTH115
        assert not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize("name", ["no_such_library", "this"])
def test_a_library_that_is_no_directory_is_missing(name: str) -> None:
    with pytest.raises(MvmnixError, match=f"the Python package {name} is missing"):
        code_directories(name)


def test_names_are_looked_up_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"192.0.2.1 a.example\n")
    monkeypatch.setattr(setup, "_SETTINGS", (str(hosts), str(tmp_path / "none")))
    patience = b"options timeout:3 attempts:2\n"
    assert resolver_settings() == {
        str(hosts): b"192.0.2.1 a.example\n",
        "/etc/resolv.conf": patience + b"\nsearch .\n",
    }


def test_a_connection_that_the_dialer_makes_while_the_gateway_ends_needs_no_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "_LAST", 0.05)
    watched = Watched.started()
    for of in (0, 1):
        _tell(of, _READY)
    watched.turn()
    _tell(1, _OPENED)  # the gateway doesn't say what became of it
    dialer = _processes()[1]
    close = dialer.close

    def tell_and_close() -> None:
        if dialer.given:
            _tell(1, replace(_OPENED, connection=2))
        close()

    monkeypatch.setattr(dialer, "close", tell_and_close)
    watched.network.close(watched.loop)
    watched.loop.close()
    later = replace(_LOGGED, connection=2)
    assert watched.told == [_READY, _READY, _LOGGED, later, replace(_LOGGED, kind=NetworkEventKind.UNREPORTED)]
