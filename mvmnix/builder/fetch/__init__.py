"""Brings build inputs in by hash, and nothing else: the only room whose children open connections."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "allowlist": "Allowlist",
        "caches": "CachedPath Caches",
        "credentials": "Credentials",
        "downloads": "downloaded",
        "flake_inputs": "bring_tree Fetched FetchEnvironment",
        "https": "Downloader Response",
        "https_sources": "is_web Web",
        "parsing": "document_texts json_value",
        "proxies": "Proxy",
        "registries": "Command Failure FailureKind FILES INPUT Mirror Progress PROXY_PORT Registry",
        "resolve": "resolve_reference",
        "resumable": "DownloadError TooLargeError",
        "retry": "DownloadLimits",
        "routes": "Endpoint Route ToConfigured ToProxy",
    },
    modules=["proxies"],
)
