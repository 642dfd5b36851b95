"""Writes new flakes from templates, and asks a registry for what the template of an OCI image says of it."""

from pathlib import Path

from mvmnix.api.context import Context
from mvmnix.api.source_refs import image_reference
from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.output_files import OutputDirectory


def describe_image(context: Context, text: str) -> bytes:
    """What image.json says of an OCI image, asked from its registry.

    Raises UsageError, RefusedError [oci-malformed, oci-unsupported, source-mismatch], DownloadError.
    """
    from mvmnix.builder.oci import image  # noqa: PLC0415 - one template alone needs it

    return image.describe(image.resolve(image_reference(text), context.network.registries))


def write_flake(template: Template, directory: OutputDirectory, image: bytes | None = None) -> None:
    """Write a flake, called as its directory is, that is not there yet or empty; `image` is for OCI's template alone.

    Raises UsageError where something is there.
    """
    write_template(template_tree(template, Path(directory.path).resolve().name, image=image), directory)
