"""What is refused before tomllib sees it."""

import pytest

from mvmnix.formats import toml
from mvmnix.formats.strict import MAX_DEPTH, MalformedError

DEEP = ("a", '"b c"', "'d.e'", '"f\\"g"', "h-i_1", "x" * 300)


@pytest.mark.parametrize("part", DEEP)
@pytest.mark.parametrize("dot", [".", " . ", "\t."])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "a = {{ {} = 1 }}", "text = '''\n\"'''\n{} = 1"])
def test_a_key_has_no_more_parts_than_there_are_levels(part: str, dot: str, form: str) -> None:
    """The time that tomllib takes grows with their square: 28 s for 30,000 of them in 60 KB."""
    most = form.format(dot.join([part] * MAX_DEPTH))
    assert toml.parse(most.encode(), limit=2**16)
    more = form.format(dot.join([part] * (MAX_DEPTH + 1)))
    with pytest.raises(MalformedError, match=f"a key of more than {MAX_DEPTH} parts"):
        toml.parse(more.encode(), limit=2**16)


def test_texts_with_dots_are_no_keys() -> None:
    names = ", ".join(f'"{number}.host.example.test"' for number in range(99))
    assert toml.parse(f"hosts = [{names}] # {'. ' * 99}".encode(), limit=2**16)
