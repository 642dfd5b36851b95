"""mvm volume: data disks of running machines."""

from tests.unit.cli.machines import launched
from tests.unit.cli.station import Station


def test_volumes(settled: Station) -> None:
    machine = launched(settled, "linger", name="web", options=("--data", "32:/tmp/data"))
    (found,) = settled.mvm("volume", "ls", "--json").answer("volumes")
    assert found == {
        "machine": machine,
        "name": "web",
        "kind": "data",
        "guest": "/tmp/data",
        "host": None,
        "sizeMiB": 32,
        "access": "rw",
    }
    assert settled.mvm("volume", "ls", "web", "--format", "{{.guest}}").out == "/tmp/data\n"
    assert settled.mvm("volume", "ls").out.splitlines()[1].split() == [machine, "web", "data", "/tmp/data", "32", "rw"]
    settled.mvm("kill", "web")
    assert settled.mvm("volume", "ls", "--json").answer("volumes") == []
