"""Keeps templates, sealed, and opens them as memory that machines start from: verified once, shared from then on.

A file is worth nothing without the host's sealing key, and is bound to what it is about: the digest of the template's
key, which is its name. What was opened is held by `Held`, where there is one that outlives this process.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.cold_starts import ColdStarts
from mvmnix.launch.templates.record import LIMIT, TemplateKey, TemplateRecord
from mvmnix.launch.templates.sealed_stream import PlainStream, open_stream, read_salt, sealed_chunks
from mvmnix.launch.templates.template import Held, Template
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory

_LENGTH: Final = 4
_SUFFIX: Final = ".template"
#: Held while a file takes a name or loses it.
_LOCK: Final = "lock"
#: Hexadecimal digits of a key's digest, and the file's name with them.
_DIGITS: Final = 64
_NAME: Final = r"[0-9a-f]{64}\.template"
#: Bytes that all templates may take on the disk, and how many there may be: each makes a listing slower.
MOST_BYTES: Final = 4 << 30
MOST_KEPT: Final = 32
#: Held by the process that makes a template unasked.
_MAKING: Final = "making"


class NoTemplateError(Exception):
    """There is no template to start from; the text says why, in words for the user."""


@dataclass(frozen=True, slots=True)
class KeptTemplate:
    """A template's file: what is sealed in it, its size in bytes, when it was last used, in seconds since 1970."""

    record: TemplateRecord
    size: int
    used: float


class Templates:
    """The templates of a user. `key` reads the sealing key; `policy` is that in force, revocations included.

    `are_allowed`: whether that policy lets machines start from templates.
    """

    def __init__(
        self, directory: Directory, key: Callable[[], bytes], policy: Digest, held: Held, *, are_allowed: bool = True
    ) -> None:
        self._directory = directory
        self._key = key
        self.policy = policy
        self._held = held
        self.are_allowed = are_allowed
        #: The key for which the last `find` had nothing to start from; None where it had, or where that is not known.
        self.missed: Digest | None = None

    def keep(self, record: TemplateRecord, state: bytes, memory: int) -> None:
        """Seal a template, in the place of an older one of its key. Raises OSError."""
        data = record.to_bytes()
        pieces = guest_memory.pack(guest_memory.blocks(memory))
        head = len(data).to_bytes(_LENGTH, "big") + data + state
        temporary, fd = self._directory.create_temporary(record.key.hex)
        try:
            with os.fdopen(fd, "wb") as file:
                file.writelines(sealed_chunks(self._key(), record.key.raw, chain((head,), pieces)))
                file.flush()
                os.fsync(file.fileno())
                with self._directory.lock(_LOCK):
                    self._directory.rename(temporary, record.key.hex + _SUFFIX)  # before it is closed, or it is swept
            self.cold_starts(record.boot).forget(record.key)
        except BaseException:
            self._directory.remove(temporary)
            raise

    def find(self, key: TemplateKey) -> Template:
        """Return a template for machines of this key; it is the caller's to close.

        Raises NoTemplateError where none is kept, or what is kept isn't to be used: then it is gone, unless it could
        only not be read now.
        """
        digest = key.digest
        template, is_held = self._of_file(digest)
        try:
            self._check(template.record, key)
        except NoTemplateError:
            template.close()
            self.discard(digest, template.salt)
            self.missed = digest
            raise
        if not is_held:
            self._held.give(template)
        self._touch(digest)
        return template

    def _of_file(self, digest: Digest) -> tuple[Template, bool]:
        """The template in a file, and whether it was held."""
        salt = b""
        try:
            with os.fdopen(self._directory.open_file(digest.hex + _SUFFIX), "rb") as file:
                salt, held = read_salt(file), self._held.take(digest)
                if held is not None and held.salt == salt:
                    return held, True
                if held is not None:  # of a file that was replaced
                    held.close()
                return _read(PlainStream(open_stream(self._key(), digest.raw, file)), salt), False
        except FileNotFoundError:
            self._held.drop(digest)
            self.missed = digest
            raise NoTemplateError("no template is kept for it") from None
        except ValueError as error:
            self.discard(digest, salt)
            self.missed = digest
            raise NoTemplateError(f"the template can't be used: {error}") from error
        except (OSError, RefusedError) as error:  # it may be read another time, or by another process
            raise NoTemplateError(f"the template can't be opened: {error}") from error

    def close(self) -> None:
        """Let go of what is held: the process that has found its template needs no other one."""
        self._held.close()

    def _check(self, record: TemplateRecord, key: TemplateKey) -> None:
        if record.policy != self.policy:
            raise NoTemplateError("the trust policy, or what is revoked, has changed since the template was made")
        if (record.key, record.boot) != (key.digest, key.boot):
            raise NoTemplateError("the template is of another machine")

    def list(self) -> tuple[KeptTemplate, ...]:
        """Return those that are kept, the last used one first; files that don't open are left out.

        Raises RefusedError where the sealing key is not to be used.
        """
        found = (kept for _, _, kept in self._files() if kept is not None)
        return tuple(sorted(found, key=lambda kept: -kept.used))

    def _files(self) -> Iterator[tuple[Digest, bytes, KeptTemplate | None]]:
        """Each file that can be read: its key, its salt, and what is sealed in it, None where it doesn't open."""
        names = self._names()
        key = self._key() if names else b""
        for name in names:
            digest, salt, kept = Digest(name[:_DIGITS]), b"", None
            try:
                with os.fdopen(self._directory.open_file(name), "rb") as file:
                    status = os.fstat(file.fileno())
                    with suppress(ValueError):
                        salt = read_salt(file)
                        record = _read_record(PlainStream(open_stream(key, digest.raw, file)))
                        kept = KeptTemplate(record, status.st_size, status.st_mtime)
            except (OSError, RefusedError):
                continue
            yield digest, salt, kept

    def discard(self, digest: Digest, salt: bytes) -> None:
        """Remove a template's file, if it is still the one with this salt; b"" for one that has none."""
        with self._directory.lock(_LOCK), suppress(OSError, RefusedError):
            if self._salt(digest) == salt:
                self.remove(digest)

    def _salt(self, digest: Digest) -> bytes:
        with os.fdopen(self._directory.open_file(digest.hex + _SUFFIX), "rb") as file:
            try:
                return read_salt(file)
            except ValueError:
                return b""

    def reject(self, record: TemplateRecord) -> None:
        """Have no other machine start from a template whose guest wasn't ready, nor one like it be made unasked.

        A newer one, which has another record, stays.
        """
        with suppress(OSError, RefusedError):
            for digest, salt, kept in self._files():
                if kept is not None and kept.record == record:
                    self.discard(digest, salt)
            self.cold_starts(record.boot).give_up(record.key, "a guest that was restored from one was not ready")

    def is_there(self, digest: Digest, salt: bytes) -> bool:
        """Whether a template's file is still the one with this salt. Raises OSError, RefusedError."""
        with suppress(FileNotFoundError):
            return self._salt(digest) == salt
        return False

    def has(self, digest: Digest) -> bool:
        """Whether there is a file for machines of this key."""
        return self._directory.exists(digest.hex + _SUFFIX)

    def cold_starts(self, boot: str) -> ColdStarts:
        """Counts of starts for which no template was there, at this boot of the host."""
        return ColdStarts(self._directory, boot, self.policy)

    def try_making(self) -> Lock | None:
        """Be the only process that makes a template unasked, until this is released; None where another one is."""
        return self._directory.try_lock(_MAKING)

    @property
    def is_making(self) -> bool:
        """Whether a process makes a template unasked now."""
        return self._directory.holder(_MAKING) is not None

    def remove(self, digest: Digest) -> None:
        """Remove a template, if it is there."""
        self._held.drop(digest)
        self._directory.remove(digest.hex + _SUFFIX)

    def prepare(self) -> None:
        """See to it that a template can be sealed. Raises RefusedError where the key is not to be used, OSError."""
        self._key()

    def prune(self, boot: str, most: int = MOST_BYTES, count: int = MOST_KEPT) -> tuple[Digest, ...]:
        """Remove files of other boots of the host or another policy, then the least recently used ones.

        `most` bytes and `count` templates are left at most. Returns the keys of those that were removed. Raises
        RefusedError where the sealing key is not to be used.
        """
        self._directory.sweep()  # what a killed `keep` left
        self.cold_starts(boot).sweep()
        removed, total, left = list[Digest](), 0, count
        for digest, salt, kept in sorted(self._files(), key=lambda file: 0.0 if file[2] is None else -file[2].used):
            size = 0 if kept is None else kept.size
            is_good = kept is not None and (kept.record.boot, kept.record.policy) == (boot, self.policy)
            if is_good and left and total + size <= most:
                total, left = total + size, left - 1
            else:
                self.discard(digest, salt)
                removed.append(digest)
        return tuple(removed)

    def _names(self) -> tuple[str, ...]:
        return tuple(name for name in self._directory.names() if re.fullmatch(_NAME, name))

    def _touch(self, digest: Digest) -> None:
        with suppress(OSError):
            os.utime(digest.hex + _SUFFIX, dir_fd=self._directory.fd, follow_symlinks=False)


def _read_record(source: PlainStream) -> TemplateRecord:
    length = int.from_bytes(source.exactly(_LENGTH), "big")
    if length > LIMIT:
        raise ValueError("its record is too long")
    return TemplateRecord.from_bytes(source.exactly(length))


def _read(source: PlainStream, salt: bytes) -> Template:
    record = _read_record(source)
    state = source.exactly(record.state_bytes)
    if Digest.of(state) != record.state:
        raise ValueError("the state of its devices is not what was kept")
    size = record.memory_mib << 20
    memory = guest_memory.sealed_copy(guest_memory.unpack(source, size), size, record.memory, "mvmnix-template")
    try:
        return Template(record, memory, guest_memory.sealed_state(state), salt)
    except BaseException:
        os.close(memory)
        raise
