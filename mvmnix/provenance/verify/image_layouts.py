"""The layout of a kept image: which files lie beside its kernel, initrd and rootfs, for it to be verified by; pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEvidence:
    """What lies beside an image's kernel, initrd and rootfs.

    `manifest` has the bytes of manifest.json, `provenance` those of the provenance bundle, `lock` those of flake.lock,
    None where the flake has none; `sbom` those of the SBOM where one is there; `parts` are the bundles of the kept
    parts that the provenance names, `rebuilds` the provenance bundles of other builds of the image.
    """

    manifest: bytes
    provenance: bytes
    lock: bytes | None = None
    sbom: bytes | None = None
    parts: tuple[bytes, ...] = ()
    rebuilds: tuple[bytes, ...] = ()

    def of_rebuild(self, provenance: bytes) -> "ImageEvidence":
        """What another build of the same image is verified by: its own provenance, which took in no kept parts."""
        return ImageEvidence(manifest=self.manifest, provenance=provenance, lock=self.lock)
