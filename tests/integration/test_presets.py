"""Presets of tools, by what apt and pip are really configured for here."""

import pytest

from mvmnix.api.presets import rules_of_urls
from mvmnix.builder.pins.configured import configured_urls
from mvmnix.network.policy.decisions import Rules
from mvmnix.plan.network import Network

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("tool", ["apt", "pip"])
def test_a_tool_s_own_hosts_are_allowed_and_nothing_else(tool: str) -> None:
    rules = rules_of_urls(tool, configured_urls(tool))
    assert rules
    assert [it.id for it in rules] == [f"{tool}-{number}" for number in range(1, len(rules) + 1)]
    assert {it.acknowledged for it in rules} == {()}
    asked = Rules(Network(rules))
    for it in rules:
        assert it.port is not None
        assert asked.admits(it.id, it.host, it.port).allowed or it.host[0].isdecimal()
        assert not asked.admits(it.id, f"not-{it.host}", it.port).allowed
