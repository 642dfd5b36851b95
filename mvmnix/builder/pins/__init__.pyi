from mvmnix.builder.pins import make
from mvmnix.builder.pins.configured import CONFIGURED_TOOLS, configured_urls
from mvmnix.builder.pins.debian import APT_GET
from mvmnix.builder.pins.locks import DebianLock, DependencyDepth, PythonLock
from mvmnix.builder.pins.make import PinChange
from mvmnix.builder.pins.parse import parse_debian, parse_python
from mvmnix.builder.pins.sources import fetch_all, fetch_sources

__all__ = [
    "APT_GET",
    "CONFIGURED_TOOLS",
    "DebianLock",
    "DependencyDepth",
    "PinChange",
    "PythonLock",
    "configured_urls",
    "fetch_all",
    "fetch_sources",
    "make",
    "parse_debian",
    "parse_python",
]
