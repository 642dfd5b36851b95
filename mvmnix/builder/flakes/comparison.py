"""Compares a commit's files with those in a work tree and in an index, by their bytes; follows no link."""

from typing import Self

from mvmnix.builder.flakes.file_reader import FileReader
from mvmnix.builder.flakes.git_objects import TreeEntry
from mvmnix.formats import nar


class Comparison:
    """Compares a commit's files with those in a work tree, one after another. A context manager.

    No link is followed, and no file is read that is larger. What can't be read differs.
    """

    def __init__(self, top: int) -> None:
        """`top` is a descriptor of the work tree."""
        self._reader = FileReader(top)
        self._files: list[TreeEntry] = []
        #: Whether all of them lie in the work tree, with the same bytes.
        self.is_same = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def add(self, entry: TreeEntry, content: bytes) -> None:
        """Compare one more file of the commit; quick in the order of their paths."""
        self._files.append(entry)
        if self.is_same:
            try:
                self.is_same = self._is_there(entry, content)
            except OSError:
                self.is_same = False

    def is_listed(self, listing: bytes) -> bool:
        """Whether an index has the same files as the commit, by what `git ls-files --stage -z` prints of it."""
        lines = sorted(  # as in an index: by the bytes of the paths (gitformat-index(5))
            (b"/".join(entry.path), b"%s %s 0" % (_index_mode(entry), entry.oid.encode())) for entry in self._files
        )
        return listing == b"".join(b"%s\t%s\0" % (line, path) for path, line in lines)

    def _is_there(self, entry: TreeEntry, content: bytes) -> bool:
        """Raises OSError where it can't be read."""
        match self._reader.read(entry.path, len(content)):
            case nar.Symlink(target):
                return entry.is_link and target == content
            case nar.File() as file:
                is_alike = not entry.is_link and file.executable == entry.is_executable
                return is_alike and b"".join(file.open()) == content


def _index_mode(entry: TreeEntry) -> bytes:
    """The mode of a file in an index, which has no others (gitformat-index(5))."""
    if entry.is_link:
        return b"120000"
    return b"100755" if entry.is_executable else b"100644"
