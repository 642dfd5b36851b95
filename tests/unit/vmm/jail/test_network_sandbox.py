"""Whether the code of a gateway and a dialer can be read by a uid that isn't the caller's."""

from pathlib import Path

import pytest

from mvmnix.vmm.jail.network_sandbox import is_readable_by_all


@pytest.mark.parametrize(
    ("path", "mode", "readable"),
    [
        (".", 0o755, True),
        (".", 0o700, False),
        ("inside", 0o750, False),
        ("inside/module.py", 0o640, False),
        ("inside/module.py", 0o604, True),
        ("inside/notes.txt", 0o600, True),
        ("__pycache__", 0o700, True),
    ],
)
def test_code_is_for_all_if_its_directories_and_modules_are(
    tmp_path: Path, path: str, mode: int, *, readable: bool
) -> None:
    code = tmp_path / "code"
    for directory in (code, code / "inside", code / "__pycache__"):
        directory.mkdir()
        directory.chmod(0o755)
    for file in ("inside/module.py", "inside/notes.txt"):
        (code / file).touch()
        (code / file).chmod(0o644)
    (code / path).chmod(mode)
    assert is_readable_by_all(str(code)) == readable
