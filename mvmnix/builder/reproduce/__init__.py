"""Compares what two builds of the same thing made."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "compare": "Agreement compare_images Difference Disagreement",
    },
    modules=["file_differences"],
)
