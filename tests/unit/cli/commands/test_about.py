"""mvm help, mvm version."""

import platform

from mvmnix import __version__
from tests.unit.cli.station import Station


def test_help(station: Station) -> None:
    assert station.mvm("help").out == station.mvm("--help").out
    assert station.mvm("help", "rmi").out == station.mvm("rmi", "--help").out
    assert station.mvm("help", "image", "ls").out == station.mvm("image", "ls", "-h").out
    said = station.mvm("help", "stp")
    assert (said.code, "did you mean stop? mvm --help" in said.err) == (2, True)
    assert not station.state.exists()


def test_version(station: Station) -> None:
    said = station.mvm("version")
    assert said.out.splitlines()[:2] == [f"mvm {__version__}", f"python {platform.python_version()}"]
    assert station.mvm("version", "--format", "{{.mvm}}").out == f"{__version__}\n"
    assert station.mvm("version", "--format", "json").answer("version")["mvm"] == __version__
    assert not station.state.exists()
