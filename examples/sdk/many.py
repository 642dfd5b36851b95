"""Runs 20 sandboxes from one asyncio loop, at most so many at once, and collects what each printed."""

import asyncio
import sys

from mvmnix import aio


async def square(image: str, number: int, room: asyncio.Semaphore) -> int:
    """Cancelling this task would end the command, and the machine."""
    async with room, aio.Sandbox.run(image, labels={"number": str(number)}) as box:
        done = await box.shell(f"echo $(({number} * {number}))", check=True, text=True)
        return int(done.stdout)


async def main(image: str, count: int, at_once: int) -> None:
    """The loop goes on meanwhile: what blocks runs in its executor."""
    room = asyncio.Semaphore(at_once)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(square(image, number, room)) for number in range(count)]
    print(sum(task.result() for task in tasks))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
