from mvmnix.builder.fetch import proxies
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.caches import CachedPath, Caches
from mvmnix.builder.fetch.credentials import Credentials
from mvmnix.builder.fetch.downloads import downloaded
from mvmnix.builder.fetch.flake_inputs import Fetched, FetchEnvironment, bring_tree
from mvmnix.builder.fetch.https import Downloader, Response
from mvmnix.builder.fetch.https_sources import Web, is_web
from mvmnix.builder.fetch.parsing import document_texts, json_value
from mvmnix.builder.fetch.proxies import Proxy
from mvmnix.builder.fetch.registries import (
    FILES,
    INPUT,
    PROXY_PORT,
    Command,
    Failure,
    FailureKind,
    Mirror,
    Progress,
    Registry,
)
from mvmnix.builder.fetch.resolve import resolve_reference
from mvmnix.builder.fetch.resumable import DownloadError, TooLargeError
from mvmnix.builder.fetch.retry import DownloadLimits
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured, ToProxy

__all__ = [
    "FILES",
    "INPUT",
    "PROXY_PORT",
    "Allowlist",
    "CachedPath",
    "Caches",
    "Command",
    "Credentials",
    "DownloadError",
    "DownloadLimits",
    "Downloader",
    "Endpoint",
    "Failure",
    "FailureKind",
    "FetchEnvironment",
    "Fetched",
    "Mirror",
    "Progress",
    "Proxy",
    "Registry",
    "Response",
    "Route",
    "ToConfigured",
    "ToProxy",
    "TooLargeError",
    "Web",
    "bring_tree",
    "document_texts",
    "downloaded",
    "is_web",
    "json_value",
    "proxies",
    "resolve_reference",
]
