"""Lists what an image was made from as a CycloneDX 1.6 document, from a build's record alone; pure.

What the image's manifest names is in the image (scope `required`); what else came in served the build (`excluded`). Of
a store path out of a binary cache it isn't known which of the two it is, so it has no scope. The same record makes the
same bytes. CycloneDX: ECMA-424; purl: ECMA-427.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import mvmnix
from mvmnix.builder.session.build import BuildRecord
from mvmnix.digest import Digest
from mvmnix.formats.strict import canonical, show_time
from mvmnix.model import Artifact, HashMode, Image, Source, StorePath
from mvmnix.provenance.slsa.provenance import lock_account

_DEB: Final = re.compile(r"mirror://debian/.*/([a-z0-9][a-z0-9+.-]*)_([^_/#]+)_([a-z0-9-]+)\.deb(#.+)?")
_WHEEL: Final = re.compile(r"mirror://pypi/(?:.*/)?([A-Za-z0-9._]+)-([A-Za-z0-9._+!]+)-[^/]+\.whl")
_FORGE: Final = re.compile(r"github:([^/?#]+)/([^/?#]+)/([0-9a-f]{40})(\?.*)?")
_OCI: Final = re.compile(r"oci://(([^/@]+)/(?:[^@]+/)?([^/@]+))@(sha256:[0-9a-f]{64})([?#].*)?")
_STORE_NAME: Final = re.compile(r"(.+?)-([0-9][^-]*(?:-.*)?)")


def of(record: BuildRecord, *, versions: Mapping[str, str]) -> bytes:
    """The SBOM of what was built, in canonical JSON.

    `versions` has full Debian versions by the URIs of packages: file names leave out the epoch.
    """
    image = _image(record.image, record)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"{record.image.manifest.digest} {show_time(record.finished)}"),
        metadata=BomMetaData(component=image, timestamp=record.finished.replace(microsecond=0), tools=_tools(record)),
        components=_components(record, versions),
    )
    bom.register_dependency(image, bom.components)
    return canonical(json.loads(JsonV1Dot6(bom).output_as_string()))


def _image(image: Image, record: BuildRecord) -> Component:
    flake = record.request.flake
    return Component(
        name=image.name,
        type=ComponentType.OPERATING_SYSTEM,
        version=str(image.manifest.digest),
        bom_ref="image",
        components=(_file(artifact) for artifact in image.artifacts),
        properties=_properties(flake=flake.uri, tree=flake.nar.sri, attribute=record.request.attribute),
    )


def _file(artifact: Artifact) -> Component:
    return Component(
        name=artifact.name,
        type=ComponentType.FILE,
        bom_ref=f"image/{artifact.name}",
        hashes=(HashType(alg=HashAlgorithm.SHA_256, content=artifact.digest.hex),),
    )


def _tools(record: BuildRecord) -> ToolRepository:
    return ToolRepository(
        components=(
            Component(name="mvm", type=ComponentType.APPLICATION, version=mvmnix.__version__),
            Component(name="nix", type=ComponentType.APPLICATION, version=record.nix),
        )
    )


def _components(record: BuildRecord, versions: Mapping[str, str]) -> Iterator[Component]:
    contained = frozenset(record.image.sources)
    for source in sorted(contained | frozenset(record.given.sources)):
        scope = ComponentScope.REQUIRED if source in contained else ComponentScope.EXCLUDED
        yield _source(source, scope, versions)
    for node in lock_account(record.request.lock, record.given.touched).inputs:
        yield _source(node.source, ComponentScope.EXCLUDED, versions)
    for path in record.given.cached:
        yield _path(path.path, path.nar, uri=path.uri, key=path.key)
    for part in record.given.kept:
        yield _path(part.path, part.nar, statement=str(part.bundle))


def _source(source: Source, scope: ComponentScope, versions: Mapping[str, str]) -> Component:
    purl, kind = _purl(source, versions)
    flat = source.mode is HashMode.FLAT
    more = {} if flat else {"narHash": source.digest.sri}
    return Component(
        name=purl.name,
        group=purl.namespace,
        version=purl.version,
        type=kind,
        bom_ref=f"{source.mode}:{source.digest.hex}:{source.name}",
        scope=scope,
        purl=purl,
        hashes=(HashType(alg=HashAlgorithm.SHA_256, content=source.digest.hex),) if flat else (),
        properties=_properties(uri=source.uri, storePath=str(source.store_path), **more),
    )


def _purl(source: Source, versions: Mapping[str, str]) -> tuple[PackageURL, ComponentType]:
    """How the world names this source; what it has no name for is `generic`, by its hash."""
    if deb := _DEB.fullmatch(source.uri):
        whole, _, member = source.uri.partition("#")
        version = versions.get(whole, deb[2])
        return PackageURL("deb", "debian", deb[1], version, {"arch": deb[3]}, member or None), ComponentType.LIBRARY
    if wheel := _WHEEL.fullmatch(source.uri):
        return PackageURL("pypi", None, wheel[1], wheel[2]), ComponentType.LIBRARY
    if forge := _FORGE.fullmatch(source.uri):
        return PackageURL("github", forge[1], forge[2], forge[3]), ComponentType.FILE
    if oci := _OCI.fullmatch(source.uri):
        return PackageURL("oci", None, oci[3], oci[4], {"repository_url": oci[1]}), ComponentType.CONTAINER
    checksum = {"checksum": str(source.digest)} if source.mode is HashMode.FLAT else {}
    return PackageURL("generic", None, source.name, None, checksum), ComponentType.FILE


def _path(path: StorePath, nar: Digest, **more: str) -> Component:
    named = _STORE_NAME.fullmatch(path.name)
    name, version = (named[1], named[2]) if named else (path.name, None)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(path),
        purl=PackageURL("generic", None, name, version),
        properties=_properties(storePath=str(path), narHash=nar.sri, **more),
    )


def _properties(**values: str) -> Iterator[Property]:
    return (Property(name=f"mvmnix:{name}", value=value) for name, value in values.items())
