"""What is said about an image, by whom, and whether a trust policy trusts it."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "isolation": "Boundary Isolation",
        "trust_toml": "show_duration",
    },
    modules=["trust_toml"],
)
