"""A notebook's cells: the kernel's loop runs already, and a sandbox lives from one cell to the next."""

import asyncio
import sys

from mvmnix import Sandbox, aio


async def cells(image: str) -> None:
    """Stand for the kernel: in a notebook each part is a cell, with `await` at its top."""
    # first cell: the blocking face needs no loop, and doesn't mind one
    box = Sandbox.run(image, idle_timeout=3600)
    # second cell
    print(box.shell("echo from a cell", text=True).stdout, end="")
    # third cell: or the loop's own face, on the same machine
    other = await aio.Sandbox.attach(box.id)
    async for event in other.stream(["/bin/sh", "-c", "echo as it comes"]):
        print(event.data.decode() if hasattr(event, "data") else f"exit code {event.exit_code}\n", end="")
    # last cell
    box.stop()
    print(box.wait().reason)


if __name__ == "__main__":
    asyncio.run(cells(sys.argv[1]))
