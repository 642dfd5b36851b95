"""Says where the next page of a registry's list is: at the list's own address, by another query, or nowhere; pure.

OCI distribution specification 1.1, "Listing Referrers"; RFC 8288. The download worker takes the Link field apart
(builder/fetch/worker/documents.py).
"""

from urllib.parse import unquote

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.errors import RefusedError
from mvmnix.strict import MalformedError


def page_after(path: str, asked: str, answered: str, target: str, allowed: Allowlist) -> str:
    """The path of the page that a link in the answer to `path` leads to: that path, with the query of the link.

    `asked` is the address of `path`, `answered` the one that gave the answer in the end, which the link is relative to.
    Raises MalformedError for a link to anywhere else.
    """
    own = allowed.admit(asked)
    try:
        there = allowed.follow(allowed.admit(answered), target)
    except RefusedError as error:
        raise MalformedError(
            f"its next page can't be asked for: {error.reasons[0].what}: {error.reasons[0].why}"
        ) from error
    place, _, query = there.target.partition("?")
    # what is asked for is written here, so that another spelling of the same path makes no difference
    if there.origin != own.origin or unquote(place) != own.target.partition("?")[0]:
        raise MalformedError(f"its next page would be elsewhere: {there}")
    path = path.partition("?")[0]
    return f"{path}?{query}" if query else path
