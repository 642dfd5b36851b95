"""Runs the steps of an operation on the asyncio loop that runs; the blocking face doesn't import asyncio."""

from mvmnix.launch.control.drivers import Steps, run_async
from mvmnix.sdk.drive import translate_errors


async def run[T](steps: Steps[T]) -> T:
    """Run the steps on this loop; what they raise is the SDK's."""
    return await run_async(translate_errors(steps))
