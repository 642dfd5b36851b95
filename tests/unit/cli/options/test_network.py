"""`--allow` and its like: what was typed gets into the plan, what is too wide is refused before anything is built."""

from functools import partial
from pathlib import Path

import pytest

from mvmnix.api import presets
from mvmnix.builder.pins import configured, pip_settings
from mvmnix.builder.pins.configured import ClientSettings
from mvmnix.errors import MvmnixError, ReasonCode
from mvmnix.plan.network import Acknowledgement, Network, WhenGatewayEnds, parse_rules
from mvmnix.plan.network_endpoints import ConnectionRate, PublishedPort, UpstreamProxy
from tests.unit.cli.plans import drafted, signed
from tests.unit.cli.station import Station

PRESET = """
version = 1
description = "ours"
allow = ["https://index.example", "tcp:db.example:5432"]
deny = ["*.example"]
"""


def keep(where: Path, name: str, text: str = PRESET) -> None:
    (where / "presets").mkdir(mode=0o700, parents=True, exist_ok=True)
    (where / f"presets/{name}.toml").write_text(text)


#: What the indexes of `tools` serve files from.
FILES: dict[str, tuple[str, ...]] = {
    "https://me:word@index.example/simple": ("https://files.example/pip.whl", "https://index.example/pip.whl"),
    "http://index.example:8080/": ("http://index.example:8080/pip.whl",),
    "https://npm.example/": ("https://npm.example/npm.tgz",),
}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """What tools are configured for, the first of it an index; no tool and no index is asked."""
    found: dict[str, tuple[str, ...]] = {
        "pip": ("https://me:word@index.example/simple", "file:///srv/wheels", "https://index.example/other"),
        "npm": ("https://npm.example/",),
    }

    def settings(tool: str) -> ClientSettings:
        urls = found[tool]
        variable = {"pip": "PIP_INDEX_URL", "npm": "NPM_CONFIG_REGISTRY"}[tool]
        variables = {variable: pip_settings.without_credentials(urls[0])}
        return ClientSettings(urls, urls[:1], variables)

    monkeypatch.setattr(configured, "_TOOLS", {tool: partial(settings, tool) for tool in found})
    monkeypatch.setattr(presets, "file_urls", serve)
    return found


def serve(tool: str, index: str) -> tuple[str, ...]:
    if index not in FILES:
        raise MvmnixError(f"{tool} has no such project")
    return FILES[index]


def test_what_was_typed_is_in_the_plan(settled: Station) -> None:
    rules = ("https://api.example.com", "tcp:db.example.com:5432,id=db,connections=4")
    typed = [word for it in rules for word in ("--allow", it)]
    plan = drafted(
        settled,
        *typed,
        *("--deny", "www.example.com", "-p", "8080:80", "--when-gateway-ends", "continue-without-network"),
        *("--network-proxy", "proxy.example.com:3128", "--connection-rate", "20:30"),
    )
    assert plan.network == Network(
        parse_rules(rules, ["www.example.com"]),
        (PublishedPort("localhost", 8080, 80),),
        WhenGatewayEnds.CONTINUE,
        UpstreamProxy("proxy.example.com", 3128),
        ConnectionRate(20, 30),
    )


def test_the_plan_is_shown_with_its_network(settled: Station) -> None:
    rules = ("--allow", "tcp:10.0.0.7:22,acknowledge=private-addresses", "--deny", "example.org")
    bundle = signed(settled, *rules, "-p", "8080:80")
    said = settled.mvm("plan", "show", bundle).err
    assert "network: the guest may reach tcp:10.0.0.7:22,acknowledge=private-addresses [allow-1]" in said
    assert "acknowledged for allow-1: private addresses of this host's networks [private-addresses]" in said
    assert "network: the guest may not reach example.org [deny-1]" in said
    assert "network: localhost port 8080 of this host leads to the guest's port 80" in said
    assert "network: 1000 new connections at once, then 100 a second" in said
    assert "network: if its gateway ends, the machine ends" in said


@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--allow", "api.example.com"), "not https://HOST"),
        (("--allow", "https://192.0.2.7"), "no name to check"),
        (("--allow", "https://2130706433"), "another form of one"),
        (("--allow", "https://bücher.example"), "xn--bcher-kva.example"),
        (("--deny", "example.org"), "--deny alone says nothing"),
        (("-p", "80"), "not a port"),
        (("--allow", "https://a.example", "--network-proxy", "http://b.example:3128"), "not"),
        (("-p", "8080:80", "-p", "8080:81"), "published twice"),
        (("--allow", "https://a.example,id=x", "--allow", "https://b.example,id=x"), "the same id: x"),
        (("--allow-preset", "../x"), "not a preset's name"),
        (("--allow-preset", "x,acknowledge=all"), "is none of acknowledge=all-hosts"),
        (("--allow-preset", "pipp"), "there is no preset pipp"),
        (("--allow-preset", "pip,index=https://me:word@a.example/"), "URL of an index without credentials"),
        (("--allow-preset", "pip,index=https://me:12/word@a.example/"), "URL of an index without credentials"),
        (("--allow-preset", "pip,index=https://*.example/"), "URL of an index without credentials"),
        (("--allow-preset", "pip,index=https://a.example,index=https://b.example"), "a preset is for one index"),
        (("--allow-preset", "apt,index=https://a.example"), "the preset apt takes no index"),
        (("--allow", "https://a.example", "--when-gateway-ends", "whatever"), "is not one of"),
        (("--allow", "https://a.example", "--connection-rate", "0"), "between 1 and 10000"),
        (("--connection-rate", "5"), "neither a rule nor a published port"),
    ],
)
def test_what_can_not_be_meant(settled: Station, command: tuple[str, ...], options: tuple[str, ...], why: str) -> None:
    said = settled.mvm(*command, *options, settled.flake())
    assert (said.code, said.out, why in said.err) == (2, "", True), said.err


@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
@pytest.mark.parametrize(
    ("rule", "word", "narrower"),
    [
        ("https://*", "all-hosts", "https://api.example.com"),
        ("tls:*.co.uk:443", "public-suffix", "such as NAME.co.uk"),
        ("tls:*.github.io:443", "public-suffix", "such as NAME.github.io"),
        ("tcp:10.0.0.0/8:22", "private-addresses", "public hosts"),
        ("http://pypi:3141", "private-addresses", "public hosts"),
        ("tcp:169.254.169.254:80", "metadata", "a range without them"),
    ],
)
def test_what_is_too_wide_is_refused_before_anything_is_built(
    settled: Station, command: tuple[str, ...], rule: str, word: str, narrower: str
) -> None:
    empty = settled.path / "flakes/none"
    empty.mkdir(parents=True)
    said = settled.mvm(*command, "--allow", rule, f"path:{empty}")
    assert (said.code, said.out) == (126, "")
    assert f"refused [{ReasonCode.NETWORK_FORBIDDEN}]" in said.err
    assert f"[{word}]" in said.err
    assert narrower in said.err
    assert f"--allow {rule},acknowledge={word}" in said.err


def test_what_is_acknowledged_is_in_the_plan(settled: Station) -> None:
    network = drafted(settled, "--allow", "https://*,acknowledge=all-hosts").network
    assert network is not None
    assert network.rules[0].acknowledged == (Acknowledgement.ALL_HOSTS,)


@pytest.mark.parametrize("options", [("--allow", "https://api.example.com"), ("-p", "8080:80")])
def test_no_machine_starts_with_a_network_that_its_image_is_not_made_for(
    settled: Station, options: tuple[str, ...]
) -> None:
    said = settled.mvm("run", *options, settled.flake(), "--", "true")
    assert (said.code, said.out) == (126, "")
    assert f"refused [{ReasonCode.PLAN_MISMATCH}]" in said.err
    assert settled.mvm("ps", "--all", "--json").answer("machines") == []


@pytest.mark.usefixtures("tools")
def test_presets_are_spelled_out(settled: Station) -> None:
    keep(settled.config, "ours")
    keep(settled.path / "etc", "site", 'version = 1\nallow = ["https://site.example,id=site"]\n')
    options = (
        "--allow",
        "https://a.example",
        "--allow-preset",
        "ours",
        "--allow-preset",
        "site",
        "--allow-preset",
        "pip",
    )
    network = drafted(settled, *options).network
    assert network is not None
    assert [(it.id, it.action, it.typed) for it in network.rules] == [
        ("allow-1", "allow", "https://a.example"),
        ("ours-1", "allow", "https://index.example"),
        ("ours-2", "allow", "tcp:db.example:5432"),
        ("ours-3", "deny", "*.example"),
        ("site", "allow", "https://site.example"),
        ("pip-1", "allow", "https://index.example"),
        ("pip-2", "allow", "https://files.example"),
    ]


@pytest.mark.usefixtures("tools")
def test_the_guest_s_tools_are_told_of_their_index(settled: Station) -> None:
    """By variables of the plan, which name no credential; those that are typed or secret go before them."""
    plan = drafted(settled, "--allow-preset", "pip", "--allow-preset", "npm")
    assert plan.workload.environment.items() >= {
        ("PIP_INDEX_URL", "https://index.example/simple"),
        ("NPM_CONFIG_REGISTRY", "https://npm.example/"),
    }
    typed = drafted(settled, "--allow-preset", "pip", "--env", "PIP_INDEX_URL=https://other.example")
    assert typed.workload.environment["PIP_INDEX_URL"] == "https://other.example"
    secret = drafted(settled, "--allow-preset", "pip", "--secret-env", "PIP_INDEX_URL=env:PIP_INDEX_URL")
    assert "PIP_INDEX_URL" not in secret.workload.environment


@pytest.mark.usefixtures("tools")
def test_what_a_tool_s_preset_adds_or_leaves_out_is_said(settled: Station) -> None:
    said = settled.mvm("plan", "create", "--allow-preset", "pip", settled.flake())
    assert "no plan holds the credentials that pip has for its index" in said.err
    assert "where its index serves files from, too: https://files.example" in said.err
    assert "sets PIP_INDEX_URL for index.example, with its path as configured" in said.err
    assert "word" not in said.err + said.out


def test_a_url_that_is_in_no_variable_is_said(settled: Station, tools: dict[str, tuple[str, ...]]) -> None:
    tools["pip"] = ("https://index.example/simple", "https://links.example/?token=word", "https://other.example/#word")
    said = settled.mvm("plan", "create", "--allow-preset", "pip", settled.flake())
    assert "no variable for links.example, other.example: a query or fragment may be a credential" in said.err
    assert "word" not in said.err + said.out


@pytest.mark.usefixtures("tools")
def test_an_index_may_be_given(settled: Station) -> None:
    plan = drafted(settled, "--allow-preset", "pip,index=http://index.example:8080/")
    assert plan.network is not None
    assert [it.typed for it in plan.network.rules] == ["http://index.example:8080"]
    assert plan.workload.environment["PIP_INDEX_URL"] == "http://index.example:8080/"
    assert plan.workload.environment["PIP_TRUSTED_HOST"] == "index.example:8080"
    plan = drafted(settled, "--allow-preset", "npm,index=https://npm.example/x/")
    assert plan.workload.environment["NPM_CONFIG_REGISTRY"] == "https://npm.example/x/"


@pytest.mark.usefixtures("tools")
def test_an_index_that_does_not_say_where_its_files_are(settled: Station) -> None:
    said = settled.mvm("plan", "create", "--allow-preset", "pip,index=https://index.example/", settled.flake())
    assert said.code == 0
    assert "where that serves files from is unknown (pip has no such project)" in said.err


@pytest.mark.usefixtures("tools")
def test_an_index_s_answer_takes_no_acknowledgement(settled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither the user's word nor the configuration's: of names at the ports of the web alone there are rules."""
    answer = (
        *("https://files.example/a", "https://index.example/b", "http://files.example/c", "https://files.example:22/d"),
        *("http://10.0.0.5:22/e", "https://10.0.0.6/f", "https://pypi/g", "https://localhost/h"),
        *("https://*.example/i", "https://[::1/j", "ftp://files.example/k"),
    )
    monkeypatch.setitem(FILES, "https://index.example/", answer)
    option = "pip,index=https://index.example/,acknowledge=private-addresses"
    network = drafted(settled, "--allow-preset", option).network
    assert network is not None
    assert [it.typed for it in network.rules] == [
        "https://index.example,acknowledge=private-addresses",
        "https://files.example",
    ]
    said = settled.mvm("plan", "create", "--allow-preset", option, settled.flake("other"))
    assert "--allow http://files.example --allow https://files.example:22 --allow tcp:10.0.0.5:22 " in said.err
    assert "--allow tcp:10.0.0.6:443 --allow https://pypi\n" in said.err


@pytest.mark.usefixtures("tools")
def test_an_index_s_answer_has_so_many_hosts(settled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without TLS may name files without TLS; its own endpoint is a rule already."""
    hosts = [f"files{number}.example" for number in range(28)]
    answer = ("http://index.example:8080/a", *(f"http://{host}/a" for host in hosts))
    monkeypatch.setitem(FILES, "http://index.example:8080/", answer)
    option = "pip,index=http://index.example:8080/"
    network = drafted(settled, "--allow-preset", option).network
    assert network is not None
    assert [it.typed for it in network.rules] == [
        "http://index.example:8080",
        *(f"http://{host}" for host in hosts[:8]),
    ]
    said = settled.mvm("plan", "create", "--allow-preset", option, settled.flake("other"))
    assert "--allow http://files23.example and 4 more\n" in said.err


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example,acknowledge=private-addresses/x",
        "https://*.example/x",
        "https://*/x",
        "https://files.example:99999/x",
        "https:///x",
    ],
)
def test_no_index_s_answer_is_more_than_a_host(url: str) -> None:
    with pytest.raises(MvmnixError, match="a host that no rule can name"):
        presets.rules_of_urls("pip", (url,))


@pytest.mark.usefixtures("tools")
def test_two_presets_don_t_set_one_variable_differently(settled: Station) -> None:
    keep(settled.config, "ours", PRESET + 'environment = { PIP_INDEX_URL = "https://index.example", X = "1" }\n')
    options = ("--allow-preset", "ours", "--allow-preset", "pip")
    said = settled.mvm("plan", "create", *options, settled.flake())
    assert (said.code, "the presets set PIP_INDEX_URL to different values" in said.err) == (2, True)
    plan = drafted(settled, *options, "--env", "PIP_INDEX_URL=https://index.example")
    assert plan.workload.environment["X"] == "1"


def test_what_is_acknowledged_of_a_preset_is_so_of_its_rules(
    settled: Station, tools: dict[str, tuple[str, ...]]
) -> None:
    tools["pip"] = ("http://pypi:3141/simple", "http://10.0.0.7/simple")
    said = settled.mvm("plan", "create", "--allow-preset", "pip", settled.flake())
    assert (said.code, said.out) == (126, "")
    assert said.err.count("the plan says so: --allow-preset pip,acknowledge=private-addresses\n") == 2
    hints = [line for line in said.err.splitlines() if line.startswith("  next: ")]
    assert hints
    assert not [line for line in hints if "--allow " in line], "that would be another rule"
    network = drafted(settled, "--allow-preset", "pip,acknowledge=private-addresses").network
    assert network is not None
    assert [it.typed for it in network.rules] == [
        "http://pypi:3141,acknowledge=private-addresses",
        "tcp:10.0.0.7:80,acknowledge=private-addresses",
    ]


def test_what_a_preset_acknowledges_already_is_kept_in_what_is_said_to_type(settled: Station) -> None:
    keep(settled.config, "wide", 'version = 1\nallow = ["tls:*.co.uk:443", "tcp:10.0.0.0/8:22"]\n')
    flake, option = settled.flake(), "wide"
    for word in ("private-addresses", "public-suffix"):
        said = settled.mvm("plan", "create", "--allow-preset", option, flake)
        assert (said.code, f"--allow-preset {option},acknowledge={word}\n" in said.err) == (126, True), said.err
        option += f",acknowledge={word}"
    assert settled.mvm("plan", "create", "--allow-preset", option, flake).code == 0


@pytest.mark.usefixtures("tools")
def test_no_preset_takes_the_place_of_another(settled: Station) -> None:
    flake = settled.flake()
    keep(settled.config, "pip")
    said = settled.mvm("plan", "create", "--allow-preset", "pip", flake)
    assert (said.code, "more than one thing: what pip is configured for, " in said.err) == (2, True)
    keep(settled.config, "site")
    keep(settled.path / "etc", "site")
    said = settled.mvm("plan", "create", "--allow-preset", "site", flake)
    assert (said.code, "etc/presets/site.toml, " in said.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allow = []", "missing"),
        ("version = 1", "one of `allow` and `deny`"),
        ("version = 1\nallow = []", "not an array of 1 to 256 values"),
        ('version = 1\nallow = ["api.example.com"]', "not https://HOST"),
        ('version = 1\nallow = ["https://a.example"]\nmore = 1', "unknown"),
        ('version = 1\nallow = ["https://a.example"]\nenvironment = { "a-b" = "c" }', "not the name of a variable"),
        ("version = 2", "not an integer from 1 to 1"),
        ("version =", "not TOML"),
    ],
)
def test_a_preset_that_says_something_else_is_none(settled: Station, text: str, why: str) -> None:
    keep(settled.config, "ours", text)
    said = settled.mvm("plan", "create", "--allow-preset", "ours", settled.flake())
    assert (said.code, f"refused [{ReasonCode.CONFIG_MALFORMED}]" in said.err, why in said.err) == (126, True, True), (
        said.err
    )


def test_a_preset_that_others_could_change_is_none(settled: Station) -> None:
    keep(settled.config, "ours")
    (settled.config / "presets/ours.toml").chmod(0o666)
    said = settled.mvm("plan", "create", "--allow-preset", "ours", settled.flake())
    assert (said.code, f"refused [{ReasonCode.STATE_PERMISSIONS}]" in said.err) == (126, True)


def test_a_tool_without_a_source_that_is_reached_by_the_network() -> None:
    with pytest.raises(MvmnixError, match="nothing that is reached by http or https"):
        presets.rules_of_urls("apt", ("file:/srv/packages",))
    with pytest.raises(MvmnixError, match="a host that no rule can name"):
        presets.rules_of_urls("apt", ("http:" + "//[::1]/debian",))
    with pytest.raises(MvmnixError, match="the guest itself"):
        presets.rules_of_urls("pip", ("http://localhost:3141/simple",))
