"""Runs a service with a published port, waits until it is healthy, asks it something, and shows what it logged."""

import sys
import time
import urllib.request
from pathlib import Path

from mvmnix import Publish, Sandbox

SERVE = ["/bin/busybox", "httpd", "-f", "-v", "-p", "8000", "-h", "/tmp/www"]


def wait_until_healthy(url: str, patience: float = 60) -> str:
    """Return the first answer. Raises OSError where there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the service's own
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def main(image: str, port: int) -> None:
    """The port is this host's own, at localhost."""
    network = [Publish(port, 8000)]
    with Sandbox.run(image, network=network) as box:
        box.files.mkdir("/tmp/www")
        box.files.write_text("/tmp/www/health", "healthy\n")
        with box.popen(SERVE) as service:
            print(wait_until_healthy(f"http://127.0.0.1:{port}/health"), end="")
            service.signal(15)
            service.wait(timeout=30)
            Path("service.log").write_bytes(service.stderr.read())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
