from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.commands import Command, ExitStatus
from mvmnix.launch.agent.encoding import (
    ChannelClosedError,
    ChannelError,
    ChannelProtocolError,
    GuestFailedError,
    printable,
)
from mvmnix.launch.agent.endpoints import FdSink, Keep, Sink, Stdin, TypedInput, kept_sink, open_source
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.mounts import Mount
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.agent.refusal_counter import counted_services
from mvmnix.launch.agent.requests import (
    ENTROPY_BYTES,
    MAX_PAYLOAD,
    MOST_ROWS,
    CopyDirection,
    ExecRequest,
    GuestConfig,
    ShellRequest,
    copy_request,
)
from mvmnix.launch.agent.stream_frames import End, Step

__all__ = [
    "ENTROPY_BYTES",
    "MAX_PAYLOAD",
    "MOST_ROWS",
    "Channel",
    "ChannelClosedError",
    "ChannelError",
    "ChannelProtocolError",
    "Command",
    "CopyDirection",
    "End",
    "ExecRequest",
    "ExitStatus",
    "FdSink",
    "GuestConfig",
    "GuestFailedError",
    "GuestNetwork",
    "Hello",
    "Keep",
    "Mount",
    "ServiceFactory",
    "ShellRequest",
    "Sink",
    "Stdin",
    "Step",
    "TypedInput",
    "copy_request",
    "counted_services",
    "kept_sink",
    "open_source",
    "printable",
]
