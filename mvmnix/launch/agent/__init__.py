"""The host's end of the framed protocol with one guest agent (docs/channel.md): bytes, streams, services."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "client": "Channel",
        "commands": "Command ExitStatus",
        "encoding": "ChannelClosedError ChannelError ChannelProtocolError GuestFailedError printable",
        "endpoints": "FdSink Keep kept_sink open_source Sink Stdin TypedInput",
        "frames": "Hello",
        "guest_network": "GuestNetwork",
        "mounts": "Mount",
        "port_forward": "ServiceFactory",
        "refusal_counter": "counted_services",
        "requests": (
            "copy_request CopyDirection ENTROPY_BYTES ExecRequest GuestConfig MAX_PAYLOAD MOST_ROWS ShellRequest"
        ),
        "stream_frames": "End Step",
    },
)
