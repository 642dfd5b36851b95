"""By which codes a call is refused."""

from collections.abc import Callable

import pytest

from mvmnix.errors import ReasonCode, RefusedError


def refusal_codes[**P](act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> tuple[ReasonCode, ...]:
    """Return the codes of the refusal in which this call has to end, in the order in which they were found."""
    with pytest.raises(RefusedError) as caught:
        act(*args, **kwargs)
    return caught.value.codes
