"""Makes or updates the lock of a flake, evaluated in the builder VM alone."""

from pathlib import Path

from mvmnix.api.builder_vm import BuilderVm, builder_plan
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS, Progress
from mvmnix.api.image_builder import open_image_builder
from mvmnix.api.part_builder import InputFetcher
from mvmnix.api.source_refs import existing_source_ref, image_reference
from mvmnix.builder.flakes.worktree import Draft
from mvmnix.builder.lockfile.session import LockRequest, LockSession, NewLock
from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.errors import UsageError
from mvmnix.model import FlakeRef
from mvmnix.system.output_files import OutputDirectory


def lock_flake(
    context: Context, flake: str, request: LockRequest, progress: Progress = SILENT_PROGRESS
) -> tuple[NewLock, Path]:
    """Lock the inputs of the flake at this reference; returns what changed, and the lock's path, written if it did.

    Raises UsageError for an OCI image, RefusedError, which is logged, MvmnixError.
    """
    with context.recorded():
        draft = Draft(_flake(flake))
    with draft:
        context.initialize()
        with context.working():
            made = _locked(context, draft, request, progress)
        return made, (draft.lock_path if made.data is None else draft.write(made.data))


def _locked(context: Context, draft: Draft, request: LockRequest, progress: Progress) -> NewLock:
    with open_image_builder(context, progress) as images:
        builder = images.builder_image()
        vm = BuilderVm(context, images.progress, builder, builder_plan(context, builder))
        trees = InputFetcher(context, images.progress)
        work = LockSession(draft.source, store=context.sources, trees=trees, progress=images.progress)
        with vm.running(work.connection) as machine:
            return work.run(machine, request)


def _flake(text: str) -> FlakeRef:
    found = existing_source_ref(text)
    if not isinstance(found, FlakeRef):
        raise UsageError(f"{text} is an image, and has no lock", hint="name the directory of a flake.nix")
    return found


def describe_image(context: Context, text: str) -> bytes:
    """What image.json says of an OCI image, asked from its registry.

    Raises UsageError, RefusedError [oci-malformed, oci-unsupported, source-mismatch], DownloadError.
    """
    from mvmnix.builder.oci import image  # noqa: PLC0415 - one template alone needs it

    return image.describe_image(image.resolve_image(image_reference(text), context.network.registries))


def write_flake(template: Template, directory: OutputDirectory, image: bytes | None = None) -> None:
    """Write a flake, called as its directory is, that is not there yet or empty; `image` is for OCI's template alone.

    Raises UsageError where something is there.
    """
    write_template(template_tree(template, Path(directory.path).resolve().name, image=image), directory)
