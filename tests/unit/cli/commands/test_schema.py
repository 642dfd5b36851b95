"""`mvm schema`: the files as they are, and which there are."""

import json

import pytest

from mvmnix.formats import schemas
from tests.unit.cli.station import Station


def test_the_schemas_are_listed(station: Station) -> None:
    listed = station.mvm("schema").out.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", *schemas.NAMES]
    said = station.mvm("schema", "--json").answer("schemas")
    assert [each["name"] for each in said] == [*schemas.NAMES]
    titles = {each["name"]: each["title"] for each in said}
    assert titles["config"].startswith("config.toml: ")


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_is_printed_as_it_is(station: Station, name: str) -> None:
    said = station.mvm("schema", name)
    assert (said.code, said.err) == (0, "")
    assert said.out.encode() == schemas.read(name)
    assert json.loads(said.out)["$schema"].endswith("/draft/2020-12/schema")


@pytest.mark.parametrize("words", [("nothing",), ("../pyproject",), ("config", "--json")])
def test_what_there_is_none_of(station: Station, words: tuple[str, ...]) -> None:
    said = station.mvm("schema", *words)
    assert (said.code, said.out) == (2, "")
