"""How a running machine is spoken to from another process: one socket in its directory, served by its supervisor."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "authorize": "call_record guest_request needed_verb require_verb",
        "client": "Call call change",
        "messages": "Copy Exec Pause Resume Shell Start Stream TERM",
        "server": "Control",
    },
)
