"""Each folder has a face: names for others, which import nothing else of it."""

import ast
import importlib
from collections.abc import Iterator

import pytest

from tests.repository import ROOT
from tests.unit.faces import FACES, PACKAGES, WITHOUT, names_of


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "mvmnix").rglob("*.py")):
        yield (
            str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"),
            ast.parse(path.read_text()),
        )


MODULES = dict(modules())
STUBS = {
    package: ast.parse(stub.read_text())
    for package in FACES
    if (stub := ROOT / package.replace(".", "/") / "__init__.pyi").exists()
}


def beyond_faces(module: str, tree: ast.Module) -> Iterator[str]:
    """What a module imports of another folder, but for what its face says."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(source)) if source in MODULES:
                folder = source if source in PACKAGES else source.rpartition(".")[0]
                if folder in WITHOUT or module == folder or module.startswith(f"{folder}."):
                    continue
                known = names_of(folder) if source == folder else []
                yield from (f"{source}.{it.name}" for it in node.names if it.name not in known)
            case ast.Import(names=names):
                found = [it.name for it in names if it.name.rpartition(".")[0] in FACES]
                yield from (name for name in found if not module.startswith(name.rpartition(".")[0]))
            case _:
                pass


@pytest.mark.parametrize("package", FACES)
def test_it_has_what_it_says(package: str) -> None:
    """The stub for type checkers says the same, and no name hides a module."""
    face = importlib.import_module(package)
    assert sorted(getattr(face, "__all__", [])) == names_of(package)
    for name in names_of(package):
        found = getattr(face, name)
        assert f"{package}.{name}" not in MODULES or found is importlib.import_module(f"{package}.{name}")
    assert not hasattr(face, "House")


def taken() -> Iterator[tuple[str, str]]:
    """Each face of another folder that a module or a face imports from, with what it imports of it."""
    for module, tree in (*MODULES.items(), *STUBS.items()):
        for node in ast.walk(tree):
            match node:
                case ast.ImportFrom(module=str(source)) if source in FACES and not f"{module}.".startswith(
                    f"{source}."
                ):
                    yield from ((source, it.name) for it in node.names)
                case _:
                    pass


TAKEN = set(taken())


@pytest.mark.parametrize("package", [it for it in FACES if it not in {"mvmnix.api", "mvmnix.lock"}])
def test_it_has_nothing_that_no_other_folder_needs(package: str) -> None:
    """But for the face under all others, and mvmnix.lock's, whose names all rooms take for the room's own."""
    assert [name for name in names_of(package) if (package, name) not in TAKEN] == []


def test_others_import_faces_only() -> None:
    every = [*(it for it in MODULES.items() if it[0] not in PACKAGES), *STUBS.items()]
    found = {module: list(beyond_faces(module, tree)) for module, tree in every}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        ("from mvmnix.launch.plan import Plan", []),
        ("from mvmnix.launch.plan import plan, _MADE_UP", ["mvmnix.launch.plan._MADE_UP"]),
        ("from mvmnix.launch.plan.plan import Plan", ["mvmnix.launch.plan.plan.Plan"]),
        ("import mvmnix.launch.plan.plan as plans", ["mvmnix.launch.plan.plan"]),
        ("from mvmnix.launch.vmm.process import HypervisorProcess", []),
        ("def f():\n    from mvmnix.sandbox.helper import Sandbox", ["mvmnix.sandbox.helper.Sandbox"]),
        ("from mvmnix.errors import refuse", []),
    ],
)
def test_what_goes_past_a_face(text: str, beyond: list[str]) -> None:
    assert list(beyond_faces("mvmnix.launch.vmm.scheduling", ast.parse(text))) == beyond


def test_it_imports_nothing_before_it_is_asked() -> None:
    assert not [
        package
        for package in FACES
        if "faces" in (ROOT / package.replace(".", "/") / "__init__.py").read_text()
        for node in MODULES[package].body
        if isinstance(node, ast.ImportFrom) and node.module != "mvmnix.faces"
    ]
