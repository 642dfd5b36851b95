"""What the builder VM says of a flake's inputs: typed, or refused; what it is asked is only a flake in a tree."""

import json
from typing import Any

import pytest

from mvmnix.builder.lockfile import inputs
from mvmnix.builder.lockfile.inputs import Flake, InputSpec
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats.flake_references import Attributes
from mvmnix.model import StorePath

NAR = Digest.of(b"x")
TREE = StorePath.recursive("source", NAR)


def answer(inputs: object, arguments: object = (), lock: object = None, **more: object) -> bytes:
    return json.dumps({"inputs": inputs, "arguments": arguments, "lock": lock, **more}).encode()


def spec(**changes: Any) -> dict[str, Any]:
    return {"attributes": None, "flake": True, "follows": None, "inputs": {}} | changes


def test_an_answer_becomes_a_flake() -> None:
    asked: Attributes = {"type": "tarball", "url": "http://localhost/a", "x": True, "n": 3}
    inner = spec(follows="b/c")
    data = answer({"a": spec(attributes=asked, inputs={"b": inner}), "b": spec(flake=False)}, ["self", "b", "c"], "x\n")
    assert inputs.parse(data, "test") == Flake(
        {
            "a": InputSpec(asked, inputs={"b": InputSpec(follows=("b", "c"))}),
            "b": InputSpec(flake=False),
            "c": InputSpec(),
        },
        b"x\n",
    )


def test_to_follow_nothing_is_to_follow_the_root() -> None:
    assert inputs.parse(answer({"a": spec(follows="")}), "test").inputs["a"].follows == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"inputs": {}}',
        answer([]),
        answer({"a/b": spec()}),
        answer({"1": spec()}),
        answer({"a": spec(more=1)}),
        answer({"a": spec(attributes={"type": None})}),
        answer({"a": spec(attributes={"type": ["x"]})}),
        answer({"a": spec(follows="a/../b")}),
        answer({"a": spec(follows=3)}),
        answer({"a": spec(flake="yes")}),
        answer({}, arguments=["a b"]),
        answer({}, lock=3),
        answer({}, more=1),
        b" " * (inputs.LIMIT + 1),
    ],
)
def test_another_answer_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as refusal:
        inputs.parse(data, "test")
    assert set(refusal.value.codes) == {Code.FLAKE_UNSUPPORTED}


def test_the_question_names_a_tree_by_its_hash() -> None:
    text = inputs.question(TREE, NAR, "sub/dir")
    assert f'path = "{TREE}"; narHash = "{NAR.sri}";' in text
    assert 'top = tree + "/sub/dir";' in text
    assert 'top = tree + "";' in inputs.question(TREE, NAR, "")
    assert "@" not in text


@pytest.mark.parametrize("directory", ["..", "/", 'a"', "a b", "${x}", "a/../b"])
def test_no_directory_gets_into_the_question_but_a_plain_one(directory: str) -> None:
    with pytest.raises(ValueError, match="not a subdirectory"):
        inputs.question(TREE, NAR, directory)
