"""The look at whether root's rights are gone fails where one is left."""

import os

import pytest

from mvmnix.privileges import give_up, ids

GONE = (ids.MVM,) * 3


def no(_: int) -> None:
    raise PermissionError(1, "Operation not permitted")


def yes(_: int) -> None:
    """As for a process that still may."""


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("setuid", yes, "can be had again"),
        ("setgid", yes, "can be had again"),
        ("getresuid", lambda: (ids.MVM, ids.MVM, 0), "a uid or gid is left"),
        ("getresgid", lambda: (0, ids.MVM, ids.MVM), "a uid or gid is left"),
        ("getgroups", lambda: [0], "a uid or gid is left"),
    ],
)
def test_a_way_back_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str, answer: object, words: str) -> None:
    for call, gone in (("getresuid", lambda: GONE), ("getresgid", lambda: GONE), ("getgroups", list)):
        monkeypatch.setattr(os, call, gone)
    for call in ("setuid", "setgid"):
        monkeypatch.setattr(os, call, no)
    monkeypatch.setattr(os, name, answer)
    with pytest.raises(PermissionError, match=words):
        give_up._check()
