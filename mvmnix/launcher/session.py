"""What a fork of the launcher does: reads one request, answers it, and is the supervisor of its machine."""

import os
import socket
from typing import TYPE_CHECKING

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.start_messages import Taken
from mvmnix.launcher.conversation import Conversation
from mvmnix.system.descriptors import close_apart

if TYPE_CHECKING:
    from mvmnix.launcher.held_templates import HeldTemplates


def serve(connection: socket.socket, check: CallerCheck, held: "HeldTemplates | None" = None) -> int:
    """Serve a caller in this process; return its exit status. Nothing is raised: what fails is the caller's answer.

    `held` are the templates that the launcher holds, where this is a fork of one.
    """
    conversation = Conversation(connection, check)
    try:
        request, descriptors = conversation.read_request()
        try:
            if not conversation.say(Taken(os.getpid())):
                return MvmnixError.exit_code  # the caller is gone
            from mvmnix.launcher.start import perform  # noqa: PLC0415 - a launcher has it; a private one reads first

            conversation.say(perform(conversation, check, request, descriptors, held))
        finally:
            close_apart(descriptors.values())
    except Exception as error:  # noqa: BLE001 - the caller is told, and raises it
        conversation.say(Failure.of(error))
        return error.exit_code if isinstance(error, MvmnixError) else MvmnixError.exit_code
    finally:
        conversation.close()
    return 0
