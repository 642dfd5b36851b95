"""Reports on a trust policy: an account of it, what it makes of an item, and cases with expected verdicts."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "account": "Account",
        "items": "Judge Judged",
        "words": "account_lines",
    },
    modules=["cases"],
)
