from mvmnix.launch.control.authorize import call_record, guest_request, needed_verb, require_verb
from mvmnix.launch.control.client import Call, call, change
from mvmnix.launch.control.messages import TERM, Copy, Exec, Pause, Resume, Shell, Start, Stream
from mvmnix.launch.control.server import Control

__all__ = [
    "TERM",
    "Call",
    "Control",
    "Copy",
    "Exec",
    "Pause",
    "Resume",
    "Shell",
    "Start",
    "Stream",
    "call",
    "call_record",
    "change",
    "guest_request",
    "needed_verb",
    "require_verb",
]
