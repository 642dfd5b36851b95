"""What lies in a root: a program's libraries by the loader's word, remembered until something changes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.system.control_groups import GroupLimits
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.jail import root as files
from mvmnix.vmm.jail.root import LOADER, Root, libraries
from mvmnix.vmm.jail.sandbox import Limits
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec
from tests.patience import until

PROGRAM = "/usr/bin/setpriv"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "cache")) as directory:
        yield directory


def test_a_programs_libraries_are_those_that_it_maps(cache: Directory) -> None:
    found = libraries("/usr/bin/sleep", cache)
    with subprocess.Popen(["/usr/bin/sleep", "1000"]) as running:
        real = {os.path.realpath(path) for path in found}

        def mapped() -> set[str]:
            lines = Path(f"/proc/{running.pid}/maps").read_text().splitlines()
            return {line.split()[-1] for line in lines if ".so" in line}

        try:
            until(lambda: mapped() == real, lambda: mapped() ^ real)
        finally:
            running.kill()
    assert LOADER in found


def test_an_answer_is_kept_and_one_that_nobody_wrote_is_not_believed(
    cache: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = libraries(PROGRAM, cache)
    (kept,) = cache.names()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_asked", lambda _program: pytest.fail("it was asked again"))
        assert libraries(PROGRAM, cache) == first
    for garbage in (b"", b"{}", b'{"libraries":["/proc/nonexistent/lib.so"]}'):
        cache.write_atomic(kept, garbage)
        assert libraries(PROGRAM, cache) == first


def test_a_program_without_libraries(tmp_path: Path, cache: Directory) -> None:
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    for option in ("-static", "-static-pie"):
        subprocess.run(["gcc", option, "-o", str(tmp_path / option), str(tmp_path / "empty.c")], check=True)
        assert libraries(str(tmp_path / option), cache) == ()


def test_a_file_that_is_no_program(tmp_path: Path, cache: Directory) -> None:
    (tmp_path / "text").write_text("no program")
    for name in ("nothing", "text"):
        with pytest.raises(MvmnixError, match="libraries of"):
            libraries(str(tmp_path / name), cache)


def test_links_lead_where_the_loader_looks(cache: Directory) -> None:
    it = Root.of([PROGRAM], ["/etc/ld.so.cache"], cache)
    inside = dict(it.files)
    assert inside[PROGRAM] == os.path.realpath(PROGRAM)
    assert not any(Path(path).is_symlink() for path in inside.values())
    assert it.programs[0] == PROGRAM
    assert it.programs[1].endswith("/ld-linux-x86-64.so.2")
    for library in libraries(PROGRAM, cache):
        assert f"{os.path.realpath(Path(library).parent)}/{Path(library).name}" in inside
    mounts = it.mounts()
    if Path("/lib64").is_symlink():
        at = mounts.index("/lib64")
        assert mounts[at - 2 : at] == ("--symlink", str(Path("/lib64").readlink()))


def test_a_file_that_others_could_change_is_refused(tmp_path: Path, cache: Directory) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path(PROGRAM).read_bytes())
    program.chmod(0o777)
    with pytest.raises(RefusedError) as caught:
        Root.of([str(program)], [], cache)
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)


def test_limits_follow_the_plan() -> None:
    spec = LaunchSpec(1, 2, 3, 4, 5, 6, 2, 1024, "quiet", Acceleration.TCG, 2_000_000)
    limits = Limits.of(spec, Invocation(("/qemu",), (), overhead_mib=256))
    assert limits.group == GroupLimits(1280 << 20, 98, 2.5)
    assert limits.addresses > limits.group.memory
