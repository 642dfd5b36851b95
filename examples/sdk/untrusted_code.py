"""Runs code that was not reviewed, with bounds on all that it may use, and shows what it printed."""

import sys

import mvmnix
from mvmnix import Sandbox

CODE = b"""
echo "I could have been anything"
rm -rf / 2> /dev/null || echo "and have nothing to break"
"""


def main(image: str) -> None:
    """Without shares, network and secrets the guest is alone, and its machine is gone afterwards."""
    with Sandbox.run(image, memory_mib=256, timeout=300, idle_timeout=60) as box:
        try:
            done = box.exec(["/bin/sh", "-s"], input=CODE, timeout=30, output_limit=1 << 20, text=True)
        except mvmnix.TimedOut as late:
            print("it took too long, after", late.stdout)
        except mvmnix.OutputLimitExceeded as much:
            print("it printed too much, beginning with", much.stdout[:80])
        else:
            print(done.stdout, end="")
            print("exit code", done.exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
