"""Versions of Debian packages in their order."""

#: Each is older than the next (dpkg's own t-version.c, and versions of trixie).
ASCENDING = [
    "0~",
    "0",
    "0.9",
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-0a",
    "1.0-1",
    "1.0-1+b2",
    "1.0-1+b10",
    "1.0-1.1",
    "1.0-10",
    "1.0a",
    "1.0+dfsg-1",
    "1.0.1",
    "1.10",
    "1:0.1",
    "1:0.1-1",
    "10:0",
]
