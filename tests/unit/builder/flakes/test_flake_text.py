"""Names of packages in the text of a flake: those that are written out, none else, and none of what isn't read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.flakes.flake_text import package_names
from mvmnix.builder.template import Template, template_tree
from mvmnix.formats.nar import File
from tests.repository import ROOT
from tests.unit.builder.flakes.flake_texts import WRITTEN

UNCLEAR = [
    # made by a function, or by more than one set
    "{ outputs = _: f { packages.x86_64-linux.no = 1; }; }",
    "{ outputs = _: { packages.x86_64-linux = f { no = 1; }; }; }",
    "{ outputs = _: { packages.x86_64-linux.no = 1; } // f; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; } // f; }; }",
    "{ outputs = _: if f then { packages.x86_64-linux.no = 1; } else { }; }",
    "{ outputs = _: with f; { packages.x86_64-linux.no = 1; }; }",
    "{ outputs = _: _: { packages.x86_64-linux.no = 1; }; }",
    "{ outputs = { packages.x86_64-linux.no = 1; }; }",
    "{ outputs = import ./no.nix; }",
    "{ outputs = f; packages.x86_64-linux.no = 1; }",
    "f { outputs = _: { packages.x86_64-linux.no = 1; }; }",
    "rec { outputs = _: { packages.x86_64-linux.no = 1; }; }",
    "{ outputs = _: { packages.x86_64-linux.no = 1; }; outputs = f; }",
    "{ outputs.it = _: { packages.x86_64-linux.no = 1; }; }",
    "_: { outputs = _: { packages.x86_64-linux.no = 1; }; }",
    # elsewhere
    "{ outputs = _: let packages.x86_64-linux.no = 1; in { }; }",
    "{ outputs = _: { it = { packages.x86_64-linux.no = 1; }; checks.x86_64-linux.no = 1; }; }",
    "{ outputs = _: { packages.aarch64-linux.no = 1; packages.no = 1; }; }",
    # a name that isn't known
    "{ outputs = { system }: { packages.${system}.no = 1; }; }",
    '{ outputs = _: let system = f "x86_64-linux"; in { packages.${system}.no = 1; }; }',
    '{ outputs = _: let system = "x86_64-linux"; in rec { system = "no"; packages.${system}.no = 1; }; }',
    "{ outputs = _: let system = ''x86_64-linux''; in { packages.${system}.no = 1; }; }",
    '{ outputs = _: { packages."x86_64${f}".no = 1; packages.x86_64-linux.${f} = 1; }; }',
    "{ outputs = _: { packages.x86_64-linux = { inherit ${f}; }; }; }",
    # no Nix
    "",
    "{",
    "}",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; ]; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; f; }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; 2 = 1; }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it = let { }; }; }; }",
    '{ outputs = _: { packages.x86_64-linux = { no = 1; it = "; }; }; }',
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it = ''; }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; /* }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it = \\; }; }; }",
    "{ outputs = _: let in",
    "{ outputs = _: let",
    "{ outputs = ; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it = " + "(" * 200 + ")" * 200 + "; }; }; }",
    "{ outputs = _: { packages.x86_64-linux = { no = 1; it = [" + "1 " * 70_000 + "]; }; }; }",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_what_is_written_out(text: str) -> None:
    assert package_names(text.encode()) == WRITTEN[text]


@pytest.mark.parametrize("text", UNCLEAR)
def test_what_is_not(text: str) -> None:
    assert package_names(text.encode()) == ()


def test_a_text_that_is_none() -> None:
    assert package_names(b'{ outputs = _: { packages.x86_64-linux.a = "\xff"; }; }') == ()


@pytest.mark.parametrize("directory", [".", "examples/hello", "examples/python", "examples/nixpkgs"])
def test_flakes_of_this_repository(directory: str) -> None:
    assert "default" in package_names(Path(ROOT, directory, "flake.nix").read_bytes())


@pytest.mark.parametrize("template", list(Template))
def test_flakes_of_mvm_init(template: Template) -> None:
    tree = template_tree(template, "guest", image=b"{}" if template is Template.OCI else None)
    flake = tree.entries[b"flake.nix"]
    assert isinstance(flake, File)
    assert package_names(b"".join(flake.open())) == ("default",)


@given(
    st.lists(st.sampled_from([*"{}[]()\"';:=.@,\\#$\n ab1", "''", "${", "/*", "*/", "let ", "in ", "rec ", "inherit "]))
)
def test_any_text_is_read_to_its_end(pieces: list[str]) -> None:
    inside = "".join(pieces)
    for text in (inside, f"{{ outputs = _: {{ packages.x86_64-linux = {{ {inside} }}; }}; }}"):
        assert all(name.isascii() for name in package_names(text.encode()))


@pytest.mark.parametrize(
    "piece", ["{", ".", "a.", "a:", "a=1;", '"', '"${', "''${x}", "''", "<a", "a/", "let ", "/*", "${"]
)
def test_the_longest_text_is_read_to_its_end(piece: str) -> None:
    assert package_names((piece * 2**20)[: 2**20].encode()) == ()
