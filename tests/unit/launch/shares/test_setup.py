"""From a plan's shares to what a machine is given: all or none, what is refused is in the log, nothing is left open."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.strict import canonical
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.shares import setup
from mvmnix.launch.shares.server import VIRTIOFSD, command
from mvmnix.launch.shares.setup import ShareContext, Shares
from mvmnix.model import User
from mvmnix.plan.plan import Accelerator
from mvmnix.plan.share import Access, Danger, Share, ShareKind, to_json
from tests.unit.launch.house import House, nowhere
from tests.unit.launch.null_sandbox import NullJail

OWNER = 61_003 if os.geteuid() == 0 else os.geteuid()
USER = User(1000, 1000)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setup, "locate", lambda it: it.paths[0])  # nothing of it is started here
    where = tmp_path.resolve() / "shared"
    where.mkdir()
    if os.geteuid() == 0:
        os.chown(where, OWNER, OWNER)
    return where


def descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")  # noqa: PTH115
        except FileNotFoundError:
            continue
    return found


def test_what_the_guest_and_the_hypervisor_get(shared: Path) -> None:
    jail, before = NullJail(), descriptors()
    wanted = (
        Share(str(shared), "/out", Access.READ_WRITE),
        Share(str(shared), "/live", follow=True),
    )
    made = Shares.ready(wanted, ShareContext(jail, 64, USER, ()))
    assert [(it.tag, it.place, it.kind, it.read_only) for it in made.mounts] == [
        ("share0", "/out", ShareKind.VIRTIOFS, False),
        ("share1", "/live", ShareKind.VIRTIOFS, True),
    ]
    assert [it.tag for it in made.attachments] == ["share0", "share1"]
    assert made.memory is not None
    assert os.fstat(made.memory).st_size == 64 << 20
    with pytest.raises(PermissionError):
        os.ftruncate(made.memory, 4096)
    made.close()
    made.close()
    assert [sandbox.released for sandbox in jail.sandboxes] == [1, 1]
    assert descriptors() == before


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_made(shared: Path) -> None:
    jail, before = NullJail(), descriptors()
    wanted = (
        Share(str(shared), "/out", Access.READ_WRITE),
        Share("/etc", "/etc-too"),
        Share(str(shared / "nothing"), "/nothing"),
    )
    with pytest.raises(RefusedError) as refused:
        Shares.ready(wanted, ShareContext(jail, 64, USER, ()))
    assert set(refused.value.codes) == {ReasonCode.SHARE_FORBIDDEN, ReasonCode.SHARE_UNAVAILABLE}
    assert jail.sandboxes == []
    assert descriptors() == before


def test_a_machine_without_shares_has_memory_of_its_own() -> None:
    made = Shares.ready((), ShareContext(NullJail(), 64, USER, ()))
    assert (made.memory, made.mounts, made.attachments, made.shared) == (None, (), (), ())


def test_a_refused_share_is_logged_and_starts_nothing(here: House) -> None:
    with here.plan("/bin/echo", shares=(Share("/etc", "/data"),)) as plan, pytest.raises(RefusedError, match="/etc"):
        start_machine(plan, here.host())
    assert [(it.kind, it.reasons) for it in here.log()] == [(RecordKind.REFUSAL, ("share-forbidden",))]
    assert here.receipts() == []


def test_mvms_own_directories_are_the_hosts_word(here: House, shared: Path) -> None:
    with (
        here.plan("/bin/echo", shares=(Share(str(shared), "/data", follow=True),)) as plan,
        pytest.raises(RefusedError, match="mvm-state"),
    ):
        start_machine(plan, replace(here.host(), own=(str(shared / "state"), str(shared))))


def test_the_log_has_the_lists_digest_and_what_was_acknowledged(here: House, shared: Path) -> None:
    (shared / ".ssh").mkdir()
    shares = (Share(str(shared), "/data", follow=True, acknowledged=(Danger.CREDENTIALS,)),)
    with here.plan("/bin/echo", shares=shares) as plan, pytest.raises(Exception, match=r".+"):
        # the program in the hypervisor's place knows no shares, and the server's sandbox takes nothing away: both end
        start_machine(plan, here.host()).run(stdout=nowhere, stderr=nowhere)
    begin = next(it for it in here.log() if it.kind is RecordKind.START)
    assert begin.digests["shares"] == Digest.of(canonical(to_json(shares)))
    assert begin.reasons == ("acknowledged-credentials",)


def test_the_servers_command_line() -> None:
    program = VIRTIOFSD.paths[0]
    plain = command(program, 7, inside=User(12, 34), writable=True)
    assert plain == (
        *(program, "--fd", "7", "--shared-dir", "/share", "--sandbox", "none", "--seccomp", "kill"),
        *("--translate-uid", "squash-guest:0:12:4294967295", "--translate-gid", "squash-guest:0:34:4294967295"),
        *("--inode-file-handles=never", "--no-announce-submounts", "--log-level", "error"),
    )
    assert command(program, 7, inside=User(12, 34), writable=False) == (*plain, "--readonly")


def test_a_start_that_is_refused_later_leaves_nothing_open(here: House, shared: Path) -> None:
    host = here.host()
    with here.plan(shares=(Share(str(shared), "/data", follow=True),), accelerator=Accelerator.KVM) as plan:
        before = descriptors()
        with pytest.raises(RefusedError) as refused:
            start_machine(plan, host)
        assert refused.value.codes == (ReasonCode.ACCELERATOR_UNAVAILABLE,)
        assert not {it for it in descriptors() - before if "/house/" not in it}, "but for the house's own"
