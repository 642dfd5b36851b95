"""New flakes: whole, locked to the copy beside them, and never written over anything."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.builder.template import HOUSE, Template, guest_name, lock_of, template_tree, write_template
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import lock, nar
from mvmnix.model import FlakeRef
from mvmnix.system import own_flake
from mvmnix.system.output_files import OutputDirectory

IMAGE = b'{"name":"app"}'


def made(target: Path, template: Template) -> Path:
    write_template(
        template_tree(template, target.name, image=IMAGE if template is Template.OCI else None),
        OutputDirectory(str(target)),
    )
    return target


@pytest.mark.parametrize(
    ("template", "files"),
    [(Template.MINIMAL, set()), (Template.PYTHON, {"main.py"}), (Template.OCI, {"image.json"})],
)
def test_what_is_written(tmp_path: Path, template: Template, files: set[str]) -> None:
    target = made(tmp_path / "new" / "hello", template)
    assert {entry.name for entry in target.iterdir()} == {"flake.nix", "flake.lock", HOUSE} | files
    assert {entry.name for entry in (target / HOUSE).iterdir()} == {"flake.nix", "flake.lock", "modules", "profiles"}
    text = (target / "flake.nix").read_text()
    assert "@" not in text
    assert 'name = "hello";' in text
    for file in files:
        assert f"./{file}" in text
    if template is not Template.OCI:
        assert f"profiles.{template}.files // {{" in text, "what is given takes the place of all of the default's"


@pytest.mark.parametrize("template", Template)
def test_it_is_taken_as_a_flake_with_every_input_accounted_for(tmp_path: Path, template: Template) -> None:
    flake = take_flake(FlakeRef(str(made(tmp_path / "hello", template)), copy=True))
    locked = lock.parse(flake.lock)
    (house,) = locked.relative
    assert (house.name, house.path, house.parent) == (HOUSE, "./mvmnix", ())
    installed = lock.parse((own_flake.directory() / "flake.lock").read_bytes())
    assert {node.nar for node in locked.locked} == {node.nar for node in installed.locked}


def test_the_copy_is_this_installation_s_flake(tmp_path: Path) -> None:
    target = made(tmp_path / "hello", Template.MINIMAL)
    names = (b"flake.nix", b"flake.lock", b"modules", b"profiles")
    copied = take_flake(FlakeRef(str(target / HOUSE), copy=True))
    assert copied.archive == b"".join(nar.nar_of_tree(nar.Dir(bootstrap.parts(*names))))


def test_an_image_belongs_to_one_template() -> None:
    for template, image in ((Template.OCI, None), (Template.MINIMAL, IMAGE), (Template.PYTHON, IMAGE)):
        with pytest.raises(ValueError, match="oci"):
            template_tree(template, "x", image=image)


@pytest.mark.parametrize("text", ["hello", "a b", "..", "", "ü", "-x", "x" * 100, "my.guest_1", '"; evil', "${x}"])
def test_guests_have_names(text: str) -> None:
    name = guest_name(text)
    assert name.isascii()
    assert 0 < len(name) <= 64
    assert name[0].isalnum()
    assert not set(name) & set('"$\\{};/ ')


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(UsageError, match="not empty: precious") as error:
        made(tmp_path, Template.MINIMAL)
    assert "nothing is overwritten" in error.value.hint
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_where_no_directory_can_be(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "taken"
    if kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        made(target, Template.MINIMAL)
    assert not (tmp_path / "nowhere").exists()


def test_a_fresh_repository_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert (made(tmp_path, Template.MINIMAL) / "flake.nix").exists()


def test_kinds_of_files(tmp_path: Path) -> None:
    tree = nar.Dir({b"run": nar.File.of(b"#!", executable=True), b"x": nar.File.of(b""), b"l": nar.Symlink(b"run")})
    write_template(nar.Dir({b"d": tree}), OutputDirectory(str(tmp_path)))
    modes = {name: bool((tmp_path / "d" / name).stat().st_mode & stat.S_IXUSR) for name in ("run", "x")}
    assert modes == {"run": True, "x": False}
    assert (tmp_path / "d/l").readlink() == Path("run")


def node(**more: Any) -> dict[str, Any]:
    return {"locked": {"type": "github"}, "original": {"type": "github"}} | more


def test_paths_in_the_lock_begin_one_input_further_down() -> None:
    house = {
        "nodes": {
            "root": {"inputs": {"a": "a", "b": "b", "same": ["a", "b"]}},
            "a": node(inputs={"b": ["b"]}),
            "b": node(),
            "inner": node(parent=["a"]),
        },
        "root": "root",
        "version": 7,
    }
    nodes = json.loads(lock_of(json.dumps(house).encode()))["nodes"]
    assert nodes["root"] == {"inputs": {HOUSE: HOUSE}}
    assert nodes[HOUSE]["inputs"] == {"a": "a", "b": "b", "same": [HOUSE, "a", "b"]}
    assert nodes["a"]["inputs"] == {"b": [HOUSE, "b"]}
    assert nodes["inner"]["parent"] == [HOUSE, "a"]


def test_a_root_of_another_name() -> None:
    house = {"nodes": {"top": {"inputs": {"a": "a"}}, "a": node()}, "root": "top", "version": 7}
    assert set(json.loads(lock_of(json.dumps(house).encode()))["nodes"]) == {"root", HOUSE, "a"}


@pytest.mark.parametrize("name", [HOUSE, "root"])
def test_names_that_are_taken(name: str) -> None:
    house = {"nodes": {"top": {}, name: node()}, "root": "top", "version": 7}
    with pytest.raises(MvmnixError):
        lock_of(json.dumps(house).encode())
