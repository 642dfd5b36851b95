"""Every child of mvm has a row: in docs/reference/processes.md, and here with what spells its arguments."""

import ast
import importlib
import pkgutil
from typing import Final

import pytest

from tests.repository import ROOT
from tests.unit import spawns

TABLE: Final = ROOT / "docs/reference/processes.md"
BUILDERS: Final = "tests/unit/test_argument_builders.py"
#: Tests that need no text: they show that there is none in what varies.
FIXED: Final = {
    "test_what_works_on_a_directory_is_told_numbers",
    "test_no_text_of_a_plan_is_on_the_jails_command_line",
}
#: By where a child is started: what spells its arguments (module:name), and the tests that hold it to any text.
#: None: nothing varies in it but numbers and mvm's own constants; or it is a fork.
SPELLED: Final[dict[str, tuple[str, tuple[str, ...]] | None]] = {
    "mvmnix/api/launchers.py:_spawn": None,
    "mvmnix/api/unasked_templates.py:_start_maker": None,
    "mvmnix/launcher/main.py:_serve_shared": None,
    "mvmnix/launcher/server.py:Server._fork_for": None,
    "mvmnix/audit/anchors.py:CommandAnchor.take": (
        "mvmnix.config:AnchorRule",
        ("tests/unit/system/test_process.py::test_an_argument_is_one_argument_or_refused",),
    ),
    "mvmnix/audit/git_branch.py:GitBranch.read": (
        "mvmnix.audit.git_branch:GitBranch",
        (f"{BUILDERS}::test_the_anchor_in_a_repository",),
    ),
    "mvmnix/builder/fetch/unpack.py:unpacked_archive": None,
    "mvmnix/builder/fetch/unpack.py:unpacked_commit": (
        "mvmnix.builder.fetch.unpack:Checkout",
        (f"{BUILDERS}::test_what_of_a_repository_is_asked_is_one_commit_and_one_ref",),
    ),
    "mvmnix/builder/fetch/unpack.py:fetchzip": None,
    "mvmnix/builder/fetch/downloads.py:downloaded": (
        "mvmnix.builder.fetch.registries:Command",
        (f"{BUILDERS}::test_what_is_downloaded_is_named_behind_constants",),
    ),
    "mvmnix/builder/fetch/lanes.py:_Worker._run": None,
    "mvmnix/builder/fetch/worker/serve.py:main": None,
    "mvmnix/builder/flakes/git.py:_sandbox": (
        "mvmnix.builder.flakes.repository:Found",
        (f"{BUILDERS}::test_the_reader_of_repositories",),
    ),
    "mvmnix/builder/pins/debian.py:AptMirror.command": (
        "mvmnix.builder.pins.debian:AptMirror",
        ("tests/unit/builder/pins/test_debian.py::test_a_uri_for_apt_stays_below_its_mirror",),
    ),
    "mvmnix/builder/pins/debian.py:read_apt_settings": None,
    "mvmnix/builder/pins/debian.py:_unpacked": None,
    "mvmnix/builder/pins/debian.py:apt_targets": None,
    "mvmnix/builder/nix/host_nix.py:HostNix.run": (
        "mvmnix.builder.nix.store_choice:NixStore",
        (
            "tests/unit/builder/nix/test_store_choice.py::test_a_users_own_store_is_one_word_whatever_its_path",
            f"{BUILDERS}::test_nix",
        ),
    ),
    "mvmnix/builder/pins/configured.py:_npm_file_urls": None,
    "mvmnix/builder/pins/configured.py:_usual": None,
    "mvmnix/builder/pins/seed.py:executable": (
        "mvmnix.builder.pins.locks:Seed",
        (f"{BUILDERS}::test_the_sandbox_hands_words_on_behind_its_script",),
    ),
    "mvmnix/builder/pins/pip_settings.py:read": None,
    "mvmnix/builder/pins/pypi.py:PipIndexes._pip": (
        "mvmnix.builder.pins.pypi:PipIndexes",
        (
            "tests/unit/builder/pins/test_pypi.py::test_a_line_for_pip_is_a_name_a_version_and_a_hash_or_nothing",
            f"{BUILDERS}::test_a_requirement_is_one_line_for_pip",
        ),
    ),
    "mvmnix/builder/reproduce/file_differences.py:_diffoscope": None,
    "mvmnix/builder/reproduce/file_differences.py:_listed": None,
    "mvmnix/api/doctor.py:_nix_store": None,
    "mvmnix/api/doctor.py:_tried": None,
    "mvmnix/api/pins.py:fetch_pins": ("mvmnix.builder.nix.nix_commands:host_add", (f"{BUILDERS}::test_nix",)),
    "mvmnix/cli/commands/verify_step.py:_verify": (
        "mvmnix.cli.commands.verify_step:arguments",
        (f"{BUILDERS}::test_a_workflows_inputs",),
    ),
    "mvmnix/api/image_builder.py:ImageBuilder._new_builder": (
        "mvmnix.builder.nix.nix_commands:host_evaluate",
        (f"{BUILDERS}::test_nix",),
    ),
    "mvmnix/launch/container/run.py:_spawned": (
        "mvmnix.launch.container.oci_config:configuration",
        (
            "tests/unit/launch/container/test_oci_config.py::test_the_command_arrives_and_no_privilege_does",
            "tests/unit/launch/container/test_oci_config.py::test_no_text_of_a_plan_is_on_the_jails_command_line",
        ),
    ),
    "mvmnix/launch/runtime/vm_process.py:Preparation._start": (
        "mvmnix.vmm.qemu:Qemu",
        (
            f"{BUILDERS}::test_qemu",
            f"{BUILDERS}::test_a_tag_of_a_share_for_qemu",
            f"{BUILDERS}::test_parameters_of_a_kernel_stay_apart",
        ),
    ),
    "mvmnix/vmm/process.py:JailedProcess.spawn": (
        "mvmnix.sandbox.landlock:command",
        (
            f"{BUILDERS}::test_a_rule_of_landlock_is_one_word",
            f"{BUILDERS}::test_a_sandbox_hands_a_command_on_behind_its_own",
        ),
    ),
    "mvmnix/vmm/jail/root.py:_asked": None,
    "mvmnix/launch/secrets/resolve.py:_command": (
        "mvmnix.plan.secret_reference:SecretReference",
        (f"{BUILDERS}::test_the_words_of_a_secrets_command_are_its_own",),
    ),
    "mvmnix/launch/secrets/resolve.py:_keyring": None,
    "mvmnix/launch/shares/image.py:make_share_image": (
        "mvmnix.launch.shares.image:mkfs_command",
        (f"{BUILDERS}::test_what_works_on_a_directory_is_told_numbers",),
    ),
    "mvmnix/launch/shares/server.py:Server.start": (
        "mvmnix.launch.shares.server:command",
        (f"{BUILDERS}::test_what_works_on_a_directory_is_told_numbers",),
    ),
    "mvmnix/network/host/namespace.py:Making.__init__": (
        "mvmnix.network.host.packet_rules:ruleset",
        ("tests/unit/network/host/test_packet_rules.py::test_nothing_but_addresses_and_ports_varies",),
    ),
    "mvmnix/network/host/namespace_setup.py:main": None,
    "mvmnix/network/host/setup.py:NetworkProcess.start": None,
    "mvmnix/provenance/identity/sigstore.py:_identity": None,
    "mvmnix/vmm/jail/delegated_scope.py:_called": (
        "mvmnix.vmm.jail.delegated_scope:delegation_command",
        ("tests/unit/vmm/jail/test_delegated_scope.py::test_a_units_name_is_one_word_of_letters",),
    ),
    "mvmnix/sandbox/helper.py:Sandbox._to_the_end": (
        "mvmnix.sandbox.helper:Sandbox",
        (f"{BUILDERS}::test_the_sandbox_hands_words_on_behind_its_script",),
    ),
    "mvmnix/system/descriptors.py:made_by_child": None,
    "mvmnix/sandbox/subordinate_ids.py:SubordinateIds._map": None,
}
SITES: Final = sorted(spawns.sites())


def documented() -> dict[str, list[str]]:
    """By the place in its first cell, the cells of each row of the table."""
    rows = [line.strip("|").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| `mvmnix/")]
    places = [row[0].strip(" `") for row in rows]
    assert len(set(places)) == len(places), "a place has two rows"
    return dict(zip(places, rows, strict=True))


def test_every_child_has_a_row_and_every_row_a_child() -> None:
    assert sorted(documented()) == SITES
    assert sorted(SPELLED) == SITES


@pytest.mark.parametrize("name", spawns.OWN)
def test_what_is_looked_for_is_there(name: str) -> None:
    """A name that has moved would be looked for in vain."""
    assert pkgutil.resolve_name(name)


@pytest.mark.parametrize("place", SITES)
def test_a_row_says_everything(place: str) -> None:
    row = documented().get(place, [])
    assert len(row) == 6, "where, child, fed by whom, runs as, may touch, why"
    assert all(cell.strip() for cell in row)


@pytest.mark.parametrize("place", [place for place, it in SPELLED.items() if it is not None])
def test_what_spells_its_arguments_is_held_by_a_test(place: str) -> None:
    spelled = SPELLED[place]
    assert spelled is not None
    builder, tests = spelled
    module, _, name = builder.partition(":")
    assert hasattr(importlib.import_module(module), name)
    for test in tests:
        file, _, function = test.partition("::")
        (found,) = [it for it in ast.parse((ROOT / file).read_text()).body if getattr(it, "name", "") == function]
        given = any(isinstance(it, ast.Name) and it.id == "given" for it in ast.walk(found))
        assert given or function in FIXED, f"{test} tries no text"


@pytest.mark.parametrize(
    "text",
    [
        "import os\ndef f(): os.fork()",
        "from os import execv as go\ndef f(): go('/x', [])",
        "import subprocess as s\ndef f(): s.Popen('x')",
        "from subprocess import run\ndef f(): run('x')",
        "from mvmnix.system import process\ndef f(): process.run(['x'])",
        "from mvmnix.system.process import spawn\ndef f(): return spawn",
        "from mvmnix.system import process as p\ndef f(): return map(p.first_bytes, [])",
        "def f():\n  from os import posix_spawn\n  posix_spawn('x', [], {})",
        "import multiprocessing.pool\ndef f(): multiprocessing.pool.Pool()",
        "import webbrowser\ndef f(): webbrowser.open('x')",
        "import click\ndef f(): click.edit('x')",
        "import pty\nclass f:\n  x = pty.spawn",
        "from concurrent.futures import ProcessPoolExecutor\ndef f(): ProcessPoolExecutor()",
    ],
)
def test_no_way_to_start_one_is_overlooked(text: str) -> None:
    assert list(spawns.in_source(text)) == ["f"]


def test_what_starts_nothing_is_no_child() -> None:
    text = "import os\nfrom mvmnix.system.process import environment\ndef f(x: int): os.open('x', 0); environment()"
    assert spawns.in_source(text) == {}
    assert spawns.in_source("def run(): ...\ndef f(): run()") == {}
