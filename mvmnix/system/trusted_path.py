"""The rule by which a path is trusted: only we and root could have changed what it names.

A path is opened component by component from `/` with openat and O_NOFOLLOW. Each component is judged on the descriptor
that is then used, so that it can't be changed between the look and the use:

1. it is a directory, not a symbolic link;
2. its owner is us or root (for root: root alone);
3. no other user may write to it, except that a parent may be a sticky directory of root's, such as /tmp.
"""

import errno
import os
import pwd
import stat
from collections.abc import Callable
from contextlib import suppress

from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.formats.escaping import shell_command

#: How a directory is opened that is to be listed, made durable and used.
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A parent need not be readable, only passable (/home is 0711 in places).
_PARENT = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: What mvm's own directories are called, in each of the XDG directories.
OWN = "mvmnix"

#: How to get from a parent's descriptor to that of a name in it: name, path for messages, parent, open flags.
type Step = Callable[[str, str, int, int], int]


def walk(path: str, step: Step) -> int:
    """Open an absolute path component by component, judging each parent before anything is looked up or made in it.

    The last component is not judged yet: that is `judge` with its descriptor's status. `step` says whether what is
    missing is made. Raises FileNotFoundError, RefusedError [state-permissions], UsageError for a relative path.
    """
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"not an absolute path: {path!r}", hint="name it from / on")
    # without symbolic links, `..` means what it says in the text
    names = [name for name in os.path.normpath(path).split("/") if name]
    here = "/"
    fd = os.open(here, _PARENT if names else DIRECTORY)
    for index, name in enumerate(names, 1):
        parent = fd
        try:
            _judge_parent(here, os.fstat(parent))
            here = f"{here.rstrip('/')}/{name}"
            fd = step(name, here, parent, _PARENT if index < len(names) else DIRECTORY)
        finally:
            os.close(parent)
    return fd


def open_component(name: str, path: str, parent: int, flags: int) -> int:
    """Open a directory that must be there. Raises FileNotFoundError, RefusedError [state-permissions]."""
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        judge_closed(name, path, parent)
        raise
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        why = "it is a symbolic link or no directory"
        hint = f"name the real directory ({shell_command('realpath', path)}), or remove what stands there"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint) from error


def make_component(name: str, path: str, parent: int, flags: int, mode: int = 0o700) -> int:
    """As `open_component`, but make what is missing; durable before anything is put into it."""
    try:
        return open_component(name, path, parent, flags)
    except FileNotFoundError:
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:  # another process of ours was faster
            pass
        except PermissionError as error:
            raise _not_made(path, parent) from error
    readable = os.open(".", DIRECTORY, dir_fd=parent)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)
    return open_component(name, path, parent, flags)


def _not_made(path: str, parent: int) -> RefusedError:
    """A refusal of a directory that is missing and can't be made in its parent."""
    above, us = os.path.dirname(path), os.geteuid()  # noqa: PTH120 - a text
    if is_beneath(above, home_of(us)):
        judge_closed(".", above, parent)
    why = f"it isn't there, and {owner_name(us)}, who runs mvm, can't make it in {above}"
    made = shell_command("sudo", "install", "-d", "-m", "700", "-o", user_name(us), path)
    hint = f"point HOME or the XDG_… variables to directories of your own; or have this one made: {made}"
    return refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint)


def judge_container(path: str) -> None:
    """Refuse a directory in which another user could put another file under a name; sticky ones of root's pass.

    Raises FileNotFoundError where as much as exists of it passes, and as `walk` does.
    """
    os.close(walk(f"{path.rstrip('/')}/any", _stay_above))


def _stay_above(name: str, path: str, parent: int, flags: int) -> int:
    """The directory is judged as the parent of whatever will be in it, which is not looked up."""
    return os.dup(parent) if flags == DIRECTORY else open_component(name, path, parent, flags)


def is_root_s_alone(path: str) -> bool:
    """Whether a directory belongs to root, and no other user can change or exchange it: not above it either."""
    try:
        fd = walk(path, open_component)
    except (OSError, RefusedError):
        return False
    try:
        status = os.fstat(fd)
        return status.st_uid == 0 and not status.st_mode & _OTHERS_WRITE
    finally:
        os.close(fd)


def judge(path: str, status: os.stat_result) -> None:
    """Refuse a file or directory that a user other than us and root could have changed."""
    us = os.geteuid()
    if status.st_uid not in {us, 0}:
        why = f"it belongs to {owner_name(status.st_uid)}, who could change what mvm finds there"
        hint = f"{repair(path, recursive=False)}, or point HOME or the XDG_… variables elsewhere"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint)
    if status.st_mode & _OTHERS_WRITE:
        why = f"others than its owner may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, shell_command("chmod", "go-w", path))


def judge_closed(name: str, path: str, parent: int) -> None:
    """As `judge`, for what couldn't be opened, made or changed; what is root's is refused here as well.

    `name` may be "." for the directory `parent` itself. Returns where the owner isn't what is in the way.
    """
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except PermissionError:  # the parent may not be passed
        path, status = os.path.dirname(path), os.fstat(parent)  # noqa: PTH120 - a text
    except OSError:
        return
    judge(path, status)
    if status.st_uid != os.geteuid():
        why = f"it belongs to {owner_name(status.st_uid)} and is closed to {owner_name(os.geteuid())}, who runs mvm"
        is_ours = is_beneath(path, home_of(os.geteuid())) or os.fstat(parent).st_uid == os.geteuid()
        hint = _hint_for_closed(path, is_directory=stat.S_ISDIR(status.st_mode), is_ours=is_ours)
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint)


def owner_name(uid: int) -> str:
    """A uid, and the user's name where the password file has it.

    >>> owner_name(0)
    'uid 0 (root)'
    """
    name = user_name(uid)
    return f"uid {uid}" if name == str(uid) else f"uid {uid} ({name})"


def repair(*paths: str, recursive: bool = True) -> str:
    """The command by which these belong to the caller. It follows no symbolic link."""
    return shell_command("sudo", "chown", "-Rh" if recursive else "-h", f"{user_name(os.geteuid())}:", *paths)


def user_name(uid: int) -> str:
    """The user's name in the password file; without one the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def home_of(uid: int) -> str | None:
    """The home directory of a user, as the password file has it; None without one, and for `/`."""
    with suppress(KeyError):
        home = os.path.normpath(pwd.getpwuid(uid).pw_dir)
        return home if home.startswith("/") and home != "/" else None
    return None


def is_beneath(path: str, directory: str | None) -> bool:
    """Whether a path is one in that directory, by its text."""
    return directory is not None and path.startswith(f"{directory}/")


def _hint_for_closed(path: str, *, is_directory: bool, is_ours: bool) -> str:
    """What lies in the caller's home or directory is the caller's to have; elsewhere it may be closed for a reason."""
    if not is_ours:
        own = "point HOME or the XDG_… variables to directories of your own"
        return f"{own}; or, if every user is to read it: {shell_command('chmod', 'a+rX', path)}"
    is_own = OWN in path.split("/")
    doctor = "; `mvm doctor` names all such files" if is_own or is_directory else ""
    return f"{repair(path, recursive=is_directory and is_own)}{doctor}"


def _judge_parent(path: str, status: os.stat_result) -> None:
    """As `judge`, but let a sticky directory of root's pass: in it, no other user can rename or remove what is ours."""
    if status.st_uid != 0 or not status.st_mode & stat.S_ISVTX:
        judge(path, status)
