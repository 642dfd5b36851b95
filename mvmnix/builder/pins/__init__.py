"""Pins packages and wheels by hash: the locks, the indexes that they are made from, and the registries behind them."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "configured": "configured_urls CONFIGURED_TOOLS",
        "debian": "APT_GET",
        "locks": "DebianLock PythonLock DependencyDepth",
        "make": "PinChange",
        "parse": "parse_debian parse_python",
        "sources": "fetch_all fetch_sources",
    },
    modules=["make"],
)
