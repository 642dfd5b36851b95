"""The names that machines get whose user gives them none: an adjective and a noun."""

import secrets
from collections.abc import Collection
from typing import Final

_ADJECTIVES: Final = (
    *("amber", "ample", "bold", "brave", "bright", "brisk", "broad", "calm", "civil", "clean", "clear", "clever"),
    *("cool", "copper", "coral", "crisp", "curious", "deep", "eager", "early", "easy", "even", "fair", "fast"),
    *("firm", "fluent", "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "hardy", "honest", "humble"),
    *("keen", "kind", "large", "late", "lively", "lucid", "mellow", "merry", "mild", "modest", "neat", "noble"),
    *("patient", "plain", "polite", "proud", "quick", "quiet", "ready", "rapid", "round", "sharp", "silver", "simple"),
    *("smooth", "soft", "solid", "steady", "still", "sunny", "swift", "tidy", "upright", "vivid", "warm", "wise"),
)
_NOUNS: Final = (
    *("acorn", "anchor", "apple", "arrow", "badger", "barley", "basin", "beacon", "birch", "bridge", "brook", "canyon"),
    *("cedar", "clover", "cloud", "comet", "cove", "crane", "delta", "dune", "eagle", "ember", "falcon", "fern"),
    *("field", "finch", "fjord", "forest", "garden", "glacier", "granite", "grove", "harbor", "hazel", "heron", "hill"),
    *("island", "juniper", "kestrel", "lagoon", "lake", "lantern", "larch", "linden", "maple", "marsh", "meadow"),
    *("moon", "moss", "oak", "ocean", "orchard", "otter", "pebble", "pine", "planet", "prairie", "quartz", "raven"),
    *("reef", "ridge", "river", "robin", "shore", "sparrow", "spruce", "stone", "summit", "thistle", "tulip", "valley"),
    *("walnut", "willow"),
)
#: After so many names that others have, one is made of the machine's own id.
_TRIES: Final = 64


def new_name(others: Collection[str], *, machine: str) -> str:
    """A name that is none of `others`; `machine` is the id of the machine that it is for."""
    name = ""
    for _ in range(_TRIES):
        name = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}"
        if name not in others:
            return name
    return f"{name}-{machine}"
