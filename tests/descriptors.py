"""What a test has open: asked of the kernel below a directory, and closed at its end."""

from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path


def open_below(directory: Path) -> set[str]:
    """The paths, by the kernel's word, whatever else is open."""
    found = set[str]()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(str(fd.readlink()))
    return {name for name in found if name.startswith(str(directory))}


_OPEN = ExitStack()


def until_the_end[T: AbstractContextManager[object]](opened: T) -> T:
    """Leave it open for as long as the test runs; for whoever builds a test's world in a constructor."""
    _OPEN.enter_context(opened)
    return opened


def close_all() -> None:
    """The test has ended."""
    _OPEN.close()
