"""What of pip's and apt's configuration goes into the sandbox, and how; nothing is started."""

from pathlib import Path

import pytest

from mvmnix.builder.fetch.routes import Endpoint, ToConfigured, ToProxy
from mvmnix.builder.pins import debian, pip_settings
from mvmnix.builder.pins.debian import AptSettings
from mvmnix.errors import MvmnixError

USUAL = "https://usual.test/simple"
SOCKS = "socks5h://127.0.0.1:1080"


def test_the_last_section_of_pips_configuration_counts() -> None:
    listed = """\
:env:.cert='/c'
download.timeout='7'
global.find-links='\\n/a\\n/b'
global.index-url="https://it's.test/"
global.timeout='5'
install.timeout='6'
list.timeout='8'
nonsense
global.index-url=/x
"""
    assert pip_settings.parse(listed) == {
        "cert": "/c",
        "find-links": "\n/a\n/b",
        "index-url": "https://it's.test/",
        "timeout": "7",
    }


def test_without_a_configuration_the_usual_index_may_be_reached() -> None:
    found = pip_settings.settings({}, USUAL, {})
    assert found.route == ToConfigured(frozenset({Endpoint("usual.test", 443)}))
    assert found.environment["PIP_PROXY"] == SOCKS
    assert found.environment["PIP_CONFIG_FILE"] == "/dev/null"
    assert "PIP_INDEX_URL" not in found.environment
    assert found.files == {}
    assert pip_settings.settings({}, "", {}).route == ToConfigured(frozenset())
    assert pip_settings.settings({"no-index": "true"}, USUAL, {}).route == ToConfigured(frozenset())


def test_what_is_configured_goes_in_as_values_and_files(tmp_path: Path) -> None:
    for name in ("ca.pem", "key.pem", "constraints.txt"):
        (tmp_path / name).write_text("")
    configured = {
        "index-url": "https://me:hush@index.test:8443/simple",
        "extra-index-url": "http://extra.test/",
        "find-links": f"{tmp_path} https://links.test/ file://{tmp_path}/ca.pem",
        "cert": f"{tmp_path}/ca.pem",
        "client-cert": f"{tmp_path}/key.pem",
        "constraint": f"{tmp_path}/constraints.txt",
        "trusted-host": "index.test",
        "python": "./evil",
        "keyring-provider": "subprocess",
        "log": f"{tmp_path}/log",
    }
    found = pip_settings.settings(configured, USUAL, {"SSL_CERT_FILE": "/elsewhere"})
    places = {Endpoint("index.test", 8443), Endpoint("extra.test", 80), Endpoint("links.test", 443)}
    assert found.route == ToConfigured(frozenset(places))
    inside = {str(path): name for name, path in found.files.items()}
    assert len(found.files) == 5
    assert found.environment["PIP_INDEX_URL"] == configured["index-url"]
    assert found.environment["PIP_FIND_LINKS"].split()[1] == "https://links.test/"
    assert found.environment["PIP_FIND_LINKS"].split()[0] == inside[str(tmp_path)]
    assert found.files[found.environment["PIP_CERT"]] == tmp_path / "ca.pem"
    assert found.environment["PIP_CONSTRAINT"] == inside[f"{tmp_path}/constraints.txt"]
    assert not {"PIP_PYTHON", "PIP_KEYRING_PROVIDER", "PIP_LOG"} & found.environment.keys()
    assert "hush" not in repr(found)


def test_a_guest_is_told_of_indexes_and_links_without_credentials_and_of_no_file(tmp_path: Path) -> None:
    configured = {
        "index-url": "https://me:hush@index.test:8443/simple",
        "extra-index-url": "http://extra.test/",
        "find-links": f"{tmp_path} https://me:hush@links.test/",
        "trusted-host": "extra.test",
        "timeout": "5",
        "proxy": "http://proxy.test:3128",
    }
    found = pip_settings.settings(configured, USUAL, {})
    assert found.indexes == ("https://me:hush@index.test:8443/simple", "http://extra.test/")
    assert pip_settings.guest_variables(found) == {
        "PIP_INDEX_URL": "https://index.test:8443/simple",
        "PIP_EXTRA_INDEX_URL": "http://extra.test/",
        "PIP_FIND_LINKS": "https://links.test/",
        "PIP_TRUSTED_HOST": "extra.test",
    }


@pytest.mark.parametrize(
    ("configured", "variables"),
    [
        ({}, {"PIP_INDEX_URL": USUAL}),
        (
            {"no-index": "1", "find-links": "https://links.test/"},
            {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "https://links.test/"},
        ),
        ({"index-url": "file:///proc"}, {}),
    ],
)
def test_which_index_a_guest_is_told_of(configured: dict[str, str], variables: dict[str, str]) -> None:
    found = pip_settings.settings(configured, USUAL, {})
    assert pip_settings.guest_variables(found) == variables
    assert found.indexes == tuple(url for name, url in variables.items() if name == "PIP_INDEX_URL")


@pytest.mark.parametrize(
    ("configured", "variables"),
    [
        ({"index-url": "https://index.test/simple?token=hush"}, {}),
        (
            {
                "index-url": USUAL,
                "extra-index-url": "https://a.test/#hush https://b.test/",
                "find-links": "http://c.test/?",
            },
            {"PIP_INDEX_URL": USUAL, "PIP_EXTRA_INDEX_URL": "https://b.test/"},
        ),
    ],
)
def test_a_guest_is_told_of_no_url_with_a_query_or_fragment(
    configured: dict[str, str], variables: dict[str, str]
) -> None:
    assert pip_settings.guest_variables(pip_settings.settings(configured, USUAL, {})) == variables


def test_certificates_come_from_the_variables_of_pips_libraries(tmp_path: Path) -> None:
    found = pip_settings.settings({}, USUAL, {"SSL_CERT_FILE": str(tmp_path)})
    assert found.files[found.environment["PIP_CERT"]] == tmp_path


@pytest.mark.parametrize(
    ("configured", "environment"),
    [
        ({"proxy": "http://me:hush@proxy.test:3128"}, {}),
        ({"index-url": "http://index.test/"}, {"http_proxy": "http://me:hush@proxy.test:3128"}),
        ({}, {"https_proxy": "http://me:hush@proxy.test:3128", "no_proxy": "other.test"}),
        ({}, {"ALL_PROXY": "me:hush@proxy.test:3128"}),
    ],
)
def test_a_proxy_is_the_only_way(configured: dict[str, str], environment: dict[str, str]) -> None:
    found = pip_settings.settings(configured, USUAL, environment)
    assert found.route == ToProxy(Endpoint("proxy.test", 3128))
    assert found.environment["PIP_PROXY"] == "http://me:hush@127.0.0.1:1080"
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    "environment",
    [
        {"http_proxy": "http://proxy.test:3128"},
        {"HTTP_PROXY": "http://proxy.test:3128"},
        {"https_proxy": "http://proxy.test:3128", "no_proxy": ".test"},
        {"https_proxy": "http://proxy.test:3128", "no_proxy": "usual.test:443"},
        {"https_proxy": "http://proxy.test:3128", "no_proxy": "*"},
    ],
)
def test_a_proxy_for_others_is_no_proxy(environment: dict[str, str]) -> None:
    assert isinstance(pip_settings.settings({}, USUAL, environment).route, ToConfigured)


@pytest.mark.parametrize(
    ("configured", "environment", "why"),
    [
        ({"cert": "here.pem"}, {}, "relative path"),
        ({"find-links": "."}, {}, "relative path"),
        ({"cert": "/proc/nowhere/ca.pem"}, {}, "not there"),
        ({"index-url": "ftp://index.test/"}, {}, "not an http, https or file URL"),
        (
            {"extra-index-url": "https://direct.test"},
            {"https_proxy": "http://p.test", "no_proxy": "direct.test"},
            "some",
        ),
        ({"index-url": "https://me:hush/hush@index.test/"}, {}, "can't be told from credentials"),
        ({"index-url": "https://me:12/hush@index.test/"}, {}, "can't be told from credentials"),
        ({"find-links": "https://me:hush?hush@index.test/"}, {}, "can't be told from credentials"),
        ({"extra-index-url": "https://hush#hush@index.test/"}, {}, "can't be told from credentials"),
        ({"extra-index-url": "https://me:hush@\u2100.test/"}, {}, "can't be told from credentials"),
        ({"proxy": "https://proxy.test"}, {}, "not an http or socks5h proxy"),
        ({"proxy": "http://me:hush@"}, {}, "not an http or socks5h proxy"),
        ({"proxy": "http://me:hush@proxy.test:port"}, {}, "not an http or socks5h proxy"),
    ],
)
def test_what_is_not_supported_is_refused(configured: dict[str, str], environment: dict[str, str], why: str) -> None:
    with pytest.raises(MvmnixError, match=why) as error:
        pip_settings.settings(configured, USUAL, environment)
    assert "hush" not in f"{error.value}{error.value.__cause__}"


DUMP = """\
Acquire "";
Acquire::Retries "3";
Acquire::http::Timeout "9";
Acquire::https::mirror.test::SslKey "/etc/key.pem";
Acquire::https::CaInfo "/etc/ca.pem";
Acquire::http::Proxy::direct.test "DIRECT";
Acquire::http::Proxy "http://me:hush@proxy.test:3128";
APT::Update::Post-Invoke:: "rm -rf /";
Dir::Etc::netrc "auth.conf";
nonsense
"""


def known(dump: str, **environment: str) -> AptSettings:
    return AptSettings(debian.parse_apt_config(dump), environment, b"")


def test_apt_is_given_how_to_download_and_nothing_else() -> None:
    found = debian.for_mirror("https://direct.test/debian", known(DUMP))
    assert found.route == ToConfigured(frozenset({Endpoint("direct.test", 443)}))
    assert found.options == (
        *("-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=9"),
        *("-o", "Acquire::https::CaInfo=/apt/1", "-o", "Acquire::https::mirror.test::SslKey=/apt/0"),
    )
    assert found.files == {"/apt/0": Path("/etc/key.pem"), "/apt/1": Path("/etc/ca.pem")}
    assert found.environment == {"http_proxy": SOCKS, "https_proxy": SOCKS}


@pytest.mark.parametrize("base", ["http://mirror.test/", "https://mirror.test/"])
def test_apts_proxy_is_the_only_way(base: str) -> None:
    found = debian.for_mirror(base, known(DUMP))
    assert found.route == ToProxy(Endpoint("proxy.test", 3128))
    assert found.environment["http_proxy"] == "http://me:hush@127.0.0.1:1080"
    assert "hush" not in repr(found) + " ".join(found.options)


def test_apts_proxy_may_come_from_the_environment() -> None:
    found = debian.for_mirror("http://mirror.test/", known("", http_proxy="http://proxy.test:3128"))
    assert found.route == ToProxy(Endpoint("proxy.test", 3128))


def test_a_directory_of_packages_is_shown_and_needs_no_network() -> None:
    found = debian.for_mirror("file:/srv/packages/", known(DUMP))
    assert (found.base, found.route) == ("copy:/apt/packages", ToConfigured(frozenset()))
    assert found.files == {**found.files, "/apt/packages": Path("/srv/packages")}


def test_a_list_of_mirrors_stands_for_them(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("http://one.test/debian\tpriority:1\nhttps://two.test:8443/\n# http://no.test/\n")
    listed = debian.base_uris(f"mirror+file:{tmp_path}/list/")
    assert listed == ["http://one.test/debian", "https://two.test:8443/"]
    assert debian.base_uris("mirror+file:/proc/nowhere") == debian.base_uris("cdrom:[Debian]/") == []
    assert debian.base_uris("file:/srv/packages") == ["file:/srv/packages"]


def test_a_program_that_names_the_proxy_is_refused() -> None:
    with pytest.raises(MvmnixError, match="ask a program"):
        debian.for_mirror("http://m.test/", known('Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";'))
