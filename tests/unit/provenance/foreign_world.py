"""Statements as other tools write them, about one small file: their shapes, their names of things, their freedoms."""

import json
from dataclasses import replace
from typing import Any

from mvmnix.digest import Digest
from mvmnix.errors import Reason, RefusedError
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.slsa import in_toto
from mvmnix.provenance.verify.requirements import CheckedStatement, Requirements, StatementPosition

ARTIFACT = b"an application\n"
DIGEST = Digest.of(ARTIFACT)
REPOSITORY = "https://git.example/org/app"
TAG = "v1.2.3"
REF = f"refs/tags/{TAG}"
COMMIT = "5" * 40
GENERATOR = "https://git.example/generators/.github/workflows/generic.yml@refs/tags/v2.0.0"
WORKFLOW = "https://actions.github.io/buildtypes/workflow/v1"
V1, V0_2 = "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"

type Json = dict[str, Any]


def statement(predicate_type: str, predicate: Json, *digests: Digest, version: str = "v1", **more: Any) -> Json:
    """A statement about these digests, or about the artifact."""
    subjects = [{"name": "app.img", "digest": {"sha256": it.hex}} for it in digests or (DIGEST,)]
    kind = f"https://in-toto.io/Statement/{version}"
    return {"_type": kind, "subject": subjects, "predicateType": predicate_type, "predicate": predicate} | more


def workflow(repository: str = REPOSITORY, ref: str = REF, commit: str = COMMIT) -> Json:
    """SLSA v1 as GitHub's attestations write it."""
    return {
        "buildDefinition": {
            "buildType": WORKFLOW,
            "externalParameters": {
                "workflow": {"ref": ref, "repository": repository, "path": ".github/workflows/release.yml"}
            },
            "internalParameters": {"github": {"event_name": "push", "repository_id": "1", "runner": "hosted"}},
            "resolvedDependencies": [{"uri": f"git+{repository}@{ref}", "digest": {"gitCommit": commit}}],
        },
        "runDetails": {
            "builder": {"id": GENERATOR},
            "metadata": {"invocationId": f"{repository}/actions/runs/1/attempts/1"},
        },
    }


def generator(repository: str = REPOSITORY, ref: str = REF, commit: str = COMMIT) -> Json:
    """SLSA v0.2 as the generators for GitHub write it."""
    source = {"uri": f"git+{repository}@{ref}", "digest": {"sha1": commit}}
    return {
        "builder": {"id": GENERATOR},
        "buildType": "https://git.example/slsa-github-generator/generic@v1",
        "invocation": {
            "configSource": source | {"entryPoint": ".github/workflows/release.yml"},
            "parameters": {},
            "environment": {"github_run_attempt": "1", "github_ref": ref},
        },
        "metadata": {"buildInvocationID": "1-1", "completeness": {"parameters": True}, "reproducible": False},
        "materials": [source],
    }


def to_bytes(value: Json) -> bytes:
    """As tools write it: not canonical."""
    return json.dumps(value, indent=1).encode()


def unmet(
    payload: bytes, artifact: Blob, wanted: Requirements, place: StatementPosition, certificate: bytes = b""
) -> tuple[Reason, ...]:
    """Why a statement does not count for a file; nothing when it does."""
    try:
        claim = in_toto.parse(payload)
    except RefusedError as error:
        return place.refused(error)
    return CheckedStatement(claim, wanted, replace(place, certificate=certificate)).unmet(artifact, place)
