"""Presets of tools, by what apt and pip are really configured for here, and by what the tools read of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.api.presets import rules_of_urls
from mvmnix.builder.pins.configured import client_settings
from mvmnix.network.policy.decisions import Rules
from mvmnix.plan.network import Network

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("tool", ["apt", "pip"])
def test_a_tool_s_own_hosts_are_allowed_and_nothing_else(tool: str) -> None:
    rules = rules_of_urls(tool, client_settings(tool).urls)
    assert rules
    assert [it.id for it in rules] == [f"{tool}-{number}" for number in range(1, len(rules) + 1)]
    assert {it.acknowledged for it in rules} == {()}
    asked = Rules(Network(rules))
    for it in rules:
        assert it.port is not None
        assert asked.admits(it.id, it.host, it.port).allowed or it.host[0].isdecimal()
        assert not asked.admits(it.id, f"not-{it.host}", it.port).allowed


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("pip", (sys.executable, "-m", "pip", "config", "get", ":env:.index-url")),
        ("npm", ("npm", "config", "get", "registry")),
    ],
)
def test_the_tools_read_what_a_guest_s_are_told(tool: str, words: tuple[str, ...], tmp_path: Path) -> None:
    index = "https://index.example/simple/"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **client_settings(tool, index).environment}
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == f"{index}\n"
