"""The modules that decide security, each with the tests that have to notice when one of them decides otherwise.

Tests are the unit tests of a module's folder, those of a file of its own name first. Where a folder's rules are tested
by what another folder does with them, that folder stands beside it.
"""

from pathlib import Path
from typing import Final

from tests.repository import ROOT, tracked

#: Module or folder beneath mvmnix/, and tests beneath tests/. The first row that fits counts.
TARGETS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("formats/addresses.py", ("unit/formats/test_addresses.py", "unit/builder/fetch/test_allowlist.py")),
    ("audit", ("unit/audit",)),
    ("builder/fetch/allowlist.py", ("unit/builder/fetch/test_allowlist.py",)),
    ("builder/fetch/caches.py", ("unit/builder/fetch", "integration/test_caches.py")),
    ("builder/fetch/dial.py", ("unit/builder/fetch/test_dial.py",)),
    ("builder/fetch/https.py", ("unit/builder/fetch", "hostile/test_download_worker.py")),
    ("builder/fetch/lanes.py", ("unit/builder/fetch", "hostile/test_download_worker.py")),
    ("builder/fetch/parsing.py", ("unit/builder/fetch", "hostile/test_download_worker.py")),
    ("builder/fetch/resumable.py", ("unit/builder/fetch",)),
    ("builder/fetch/worker/compression.py", ("unit/builder/fetch/worker/test_compression.py",)),
    (
        "builder/fetch/worker/documents.py",
        ("unit/builder/fetch/worker/test_documents.py", "unit/builder/fetch/test_narinfo.py"),
    ),
    # those with short time limits first: where the worker hangs, they notice in a second
    (
        "builder/fetch/worker/exchange.py",
        (
            *("unit/builder/fetch/worker/test_exchange.py", "integration/test_downloads.py"),
            *("unit/builder/fetch/test_https.py", "unit/builder/fetch/test_lanes.py"),
        ),
    ),
    (
        "builder/fetch/worker",
        (
            *("unit/builder/fetch/worker", "unit/builder/fetch/test_lanes.py", "hostile/test_download_worker.py"),
            "integration/test_downloads.py",
        ),
    ),
    ("builder/oci", ("unit/builder/oci", "integration/test_oci.py")),
    ("launch/gate/admission.py", ("unit/launch/gate/test_admission.py", "unit/launch/gate/test_verify.py")),
    (
        "plan/plan.py",
        (
            *("unit/plan/test_plan.py", "unit/launch/gate/test_verify.py", "unit/launch/test_plan_bounds.py"),
            *("unit/plan/test_secret_reference.py", "unit/plan/test_share.py", "unit/launch/data"),
        ),
    ),
    (
        "plan/fields.py",
        ("unit/plan/test_plan.py", "unit/launch/gate/test_verify.py", "unit/launch/test_plan_bounds.py"),
    ),
    ("plan/secret_reference.py", ("unit/plan/test_secret_reference.py", "unit/launch/secrets")),
    ("launch/secrets/resolve.py", ("unit/launch/secrets",)),
    ("network/host/namespace_setup.py", ("unit/network/host/test_namespace.py",)),
    ("network", ("unit/network",)),
    ("launch/shares/sensitive_paths.py", ("unit/launch/shares", "integration/test_share_dangers.py")),
    ("launch/shares/risk_checks.py", ("unit/launch/shares", "integration/test_share_dangers.py")),
    ("launch/shares/opening.py", ("unit/launch/shares", "hostile/test_shares.py")),
    ("plan/share.py", ("unit/plan/test_share.py", "unit/launch/shares")),
    (
        "launch/runtime/start.py",
        (
            *(
                "unit/launch/runtime/test_start.py",
                "unit/launch/runtime/test_boot.py",
                "unit/launch/shares",
                "unit/launch/secrets",
            ),
            *("unit/launch/data", "unit/launch/gate/test_replay.py"),
        ),
    ),
    (
        "launch/gate/checks.py",
        ("unit/launch/gate/test_checks.py", "unit/launch/gate/test_verify.py", "unit/launch/test_plan_standing.py"),
    ),
    (
        "launch/gate/verify.py",
        ("unit/launch/gate/test_verify.py", "unit/launch/test_plan_standing.py", "unit/launch/gate/test_admission.py"),
    ),
    ("launch/gate", ("unit/launch/gate", "unit/launch/test_plan_standing.py")),
    ("api/held_files.py", ("unit/api/test_held_files.py",)),
    ("system/output_files.py", ("unit/system/test_output_files.py",)),
    ("system/descriptors.py", ("unit/system/test_descriptors.py",)),
    ("system/system_user.py", ("unit/system/test_system_user.py",)),
    ("provenance/verify/explain.py", ("unit/provenance/verify/test_explain.py", "unit/cli/commands/test_policy.py")),
    (
        "provenance/verify/release_checks.py",
        ("unit/provenance/verify/test_release_checks.py", "unit/cli/test_verify_policy.py"),
    ),
    ("provenance/policy/verdicts.py", ("unit/launch/gate/test_admission.py",)),
    ("provenance", ("unit/provenance", "unit/launch/gate/test_verify.py")),
    ("formats/escaping.py", ("unit/formats/test_escaping.py",)),
    ("keys.py", ("unit/test_keys.py",)),
    ("formats/flake_references.py", ("unit/formats/test_lock.py",)),
    ("formats/lock.py", ("unit/formats/test_lock.py",)),
    ("formats/manifest.py", ("unit/formats/test_manifest.py",)),
    ("formats/nar.py", ("unit/formats/test_nar.py",)),
    ("sandbox/git.py", ("unit/sandbox/test_git.py",)),
    ("formats/strict.py", ("unit/formats/test_strict.py",)),
    ("system/trusted_path.py", ("unit/system/test_private_dirs.py", "unit/system/test_trusted_path.py")),
    ("formats/verity.py", ("unit/formats/test_verity.py",)),
)

#: What runs in other processes too, where no recorder sees it: the worker's in a sandbox, the namespace's in one of its
#: own, the last as another user.
UNSEEN: Final = (
    *(Path("mvmnix/builder/fetch/worker"), Path("mvmnix/network/host/namespace_setup.py")),
    Path("mvmnix/system/trusted_path.py"),
)


def modules() -> list[Path]:
    """The modules, relative to the repository's top."""
    return [path for path in tracked() if path.suffix == ".py" and path.parts[0] == "mvmnix" and _row(path) is not None]


def covering(module: Path) -> tuple[str, ...]:
    """What to give to pytest for a module, from the repository's top: likely ones first, its own examples last."""
    row = _row(module)
    if row is None:
        raise ValueError(f"no target: {module}")
    row = tuple(f"tests/{name}" for name in row)
    own = Path("tests/unit", *module.parts[1:-1], f"test_{module.name}")
    first = (str(own),) if (ROOT / own).is_file() and any(own.is_relative_to(name) for name in row) else ()
    return (*first, *(path for path in row if path not in first), str(module))


def _row(module: Path) -> tuple[str, ...] | None:
    inner = Path(*module.parts[1:])
    return next((row for name, row in TARGETS if inner.is_relative_to(name)), None)
