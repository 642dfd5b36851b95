"""What a fork of the launcher does: reads one request, answers it, and is the supervisor of its machine."""

import os
import socket
from typing import TYPE_CHECKING

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.pool_messages import PoolRequest
from mvmnix.launch.control.start_messages import StartRequest, Taken
from mvmnix.launcher.conversation import Conversation
from mvmnix.system.descriptors import close_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvmnix.launch.runtime.waiting import WaitingMachine
    from mvmnix.launcher.held_templates import HeldTemplates
    from mvmnix.launcher.pools import Pools


def serve(
    connection: socket.socket, check: CallerCheck, held: "HeldTemplates | None" = None, pools: "Pools | None" = None
) -> int:
    """Serve a caller in this process; return its exit status. Nothing is raised: what fails is the caller's answer.

    `held` are the templates that the launcher holds, and `pools` its pools, where this is a fork of one.
    """
    conversation = Conversation(connection, check)
    try:
        request, descriptors = conversation.read_request()
        if (
            pools is not None
            and isinstance(request, StartRequest)
            and _is_claim(pools, request, descriptors, conversation)
        ):
            conversation.let_go()
            return 0
    except Exception as error:  # noqa: BLE001 - the caller is told, and raises it
        return _failed(conversation, error)
    return answer(conversation, check, request, descriptors, held=held, pools=pools)


def answer(
    conversation: Conversation,
    check: CallerCheck,
    request: StartRequest | PoolRequest,
    descriptors: "Mapping[str, int]",
    *,
    held: "HeldTemplates | None" = None,
    pools: "Pools | None" = None,
    waiting: "WaitingMachine | None" = None,
) -> int:
    """Answer a request that was read, as `serve` does; `waiting` is the machine of a pool that it may start with."""
    follow_up = None
    try:
        try:
            if not conversation.say(Taken(os.getpid())):
                return MvmnixError.exit_code  # the caller is gone
            if isinstance(request, PoolRequest):
                from mvmnix.launcher.pool_requests import perform as change  # noqa: PLC0415 - a launcher has it

                conversation.say(change(conversation, request, descriptors, pools))
            else:
                from mvmnix.launcher.start import perform  # noqa: PLC0415 - a private launcher reads first

                performed = perform(conversation, check, request, descriptors, held=held, waiting=waiting)
                conversation.say(performed.answer)
                follow_up = performed.follow_up
        finally:
            close_apart(descriptors.values())
        if follow_up is not None:
            conversation.close()  # its caller doesn't wait for that
            follow_up()
    except Exception as error:  # noqa: BLE001 - the caller is told, and raises it
        return _failed(conversation, error)
    finally:
        conversation.close()
    return 0


def _is_claim(
    pools: "Pools", request: StartRequest, descriptors: "Mapping[str, int]", conversation: Conversation
) -> bool:
    """Whether the process of a machine that waits serves the caller in this one's place."""
    try:
        if not pools.are_set:
            return False
        from mvmnix.launcher.claims import hand_over, is_shown  # noqa: PLC0415 - a launcher has it

        return is_shown(descriptors) and hand_over(pools, request, descriptors, conversation.fileno())
    finally:
        pools.close()


def _failed(conversation: Conversation, error: Exception) -> int:
    conversation.say(Failure.of(error))
    conversation.close()
    return error.exit_code if isinstance(error, MvmnixError) else MvmnixError.exit_code
