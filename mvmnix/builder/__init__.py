"""From a locked flake to a built image: pins, downloads, and the builder machine."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "template": "Template template_tree write_template",
    },
    modules=["bootstrap"],
)
