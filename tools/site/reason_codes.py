"""The pages of reason codes: a table of all, and a page for each, from the texts that `mvm explain` prints."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

from mvmnix.refusals.catalogue import Explanation, explanations

_PAGE: Final = """\
# `{code}`

Since {since} · about {group} · [all codes](../reason-codes.md) · `mvm explain {code}`

Refused because {meaning}

## Why it is refused

{why}

## What to do

{remedy}

## Example

```text
{example}
```
"""


def text() -> str:
    """Return the table of all codes, in Markdown."""
    return "| code | refused because |\n| --- | --- |\n" + "".join(_rows())


def pages() -> Mapping[str, str]:
    """Return the page of each code by its path below docs/."""
    return {f"reference/reason-codes/{found.code}.md": _page(found) for found in explanations().values()}


def _rows() -> Iterator[str]:
    for group, found in groupby(explanations().values(), lambda each: each.group):
        yield f"| **{group}** | |\n"
        for each in found:
            meaning = _linked(each.meaning, "../").replace("|", "\\|")
            yield f"| [`{each.code}`](reason-codes/{each.code}.md) | {meaning} |\n"


def _page(found: Explanation) -> str:
    texts = {name: _linked(getattr(found, name), "../../") for name in ("meaning", "why", "remedy")}
    return _PAGE.format(code=found.code, since=found.since, group=found.group, example=found.example, **texts)


def _linked(text: str, docs: str) -> str:
    """Return a text with its links, which are from docs/, led from a page that has docs/ at this relative path."""
    return text.replace("](", f"]({docs}")
