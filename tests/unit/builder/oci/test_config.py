"""How an image means to run: read strictly where it counts, and left alone where it does not."""

import pytest

from mvmnix.builder.oci.image import ImageConfig, parse_config
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from tests.unit.builder.oci.images import Document, Memory, config_of, text

LAYERS = (b"one", b"two")


def read(document: Document) -> ImageConfig:
    return parse_config(text(document), "it", Memory().decode, layers=len(LAYERS))


def execution(**fields: object) -> Document:
    return config_of(LAYERS, **fields)


def test_all_of_it() -> None:
    found = read(
        execution(
            Entrypoint=["/bin/app", "--serve"],
            Cmd=["a b", "ü", ""],
            Env=["PATH=/bin", "EMPTY=", "X=a=b\nc"],
            WorkingDir="//srv/./app/",
            User="web:staff",
            Volumes={"/data/": {}, "/tmp": {}, "/data": {}, "/cache": {}},
            Labels={"a": "b"},
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGQUIT",
            Healthcheck={"Test": ["CMD", "x"], "Interval": 30_000_000_000},
            OnBuild=None,
        )
        | {"history": [{"created_by": "x"}], "created": "2026-01-01T00:00:00.123Z", "container_config": {"Cmd": ["no"]}}
    )
    assert found.command == ("/bin/app", "--serve", "a b", "ü", "")
    assert found.environment == {"PATH": "/bin", "EMPTY": "", "X": "a=b\nc"}
    assert (found.directory, found.user, found.volumes) == ("/srv/app", "web:staff", ("/cache", "/data"))
    assert len(found.diff_ids) == 2


@pytest.mark.parametrize(
    "document",
    [
        execution(),
        execution() | {"config": None},
        {name: value for name, value in execution().items() if name != "config"},
        execution(Entrypoint=None, Cmd=None, Env=None, WorkingDir="", User="", Volumes=None),
    ],
)
def test_nothing_of_it(document: Document) -> None:
    found = read(document)
    assert (found.command, found.environment, found.directory, found.user, found.volumes) == ((), {}, "/", "", ())


def test_the_most_layers() -> None:
    layers = [b"%d" % number for number in range(128)]
    found = parse_config(text(config_of(layers[:127])), "it", Memory().decode, layers=127)
    assert len(found.diff_ids) == 127
    with pytest.raises(RefusedError, match="not an array of at most 127 values"):
        parse_config(text(config_of(layers)), "it", Memory().decode, layers=128)


def test_the_most_of_it() -> None:
    found = read(
        execution(
            Entrypoint=["x"] * 512,
            Cmd=["x"] * 512,
            Env=[f"A{number}=" for number in range(4096)],
            WorkingDir="/" + "x" * 1023,
        )
    )
    assert (len(found.command), len(found.environment), len(found.directory)) == (1024, 4096, 1024)


MALFORMED: dict[str, Document] = {
    "fewer layers": config_of(LAYERS[:1]),
    "more layers": config_of((*LAYERS, b"three")),
    "no layers": {"os": "linux", "architecture": "amd64"},
    "another kind of layers": execution() | {"rootfs": {"type": "files", "diff_ids": []}},
    "another digest": execution() | {"rootfs": {"type": "layers", "diff_ids": ["md5:00", "md5:11"]}},
    "more of a root file system": execution() | {"rootfs": execution()["rootfs"] | {"base_layer": "x"}},
    "no platform": {name: value for name, value in execution().items() if name != "os"},
    "a command as text": execution(Cmd="ls -l"),
    "a zero in a command": execution(Cmd=["a\0b"]),
    "a number as an argument": execution(Cmd=[1]),
    "too many arguments": execution(Cmd=["x"] * 513),
    "too many words before them": execution(Entrypoint=["x"] * 513),
    "too many variables": execution(Env=[f"A{number}=" for number in range(4097)]),
    "no variable": execution(Env=["PATH"]),
    "a variable without a name": execution(Env=["=x"]),
    "a variable that no shell takes": execution(Env=["A-B=x"]),
    "a variable twice": execution(Env=["A=1", "A=2"]),
    "a zero in a variable": execution(Env=["A=\0"]),
    "a relative directory": execution(WorkingDir="srv"),
    "a directory with ..": execution(WorkingDir="/srv/../../etc"),
    "a directory with a line break": execution(WorkingDir="/srv\n/x"),
    "a long directory": execution(WorkingDir="/" + "x" * 1024),
    "a user with a space": execution(User="we b"),
    "three users": execution(User="a:b:c"),
    "a user as a number": execution(User=0),
    "a relative volume": execution(Volumes={"data": {}}),
    "the root as a volume": execution(Volumes={"/": {}}),
    "a volume in /proc": execution(Volumes={"/proc/self": {}}),
    "/dev as a volume": execution(Volumes={"/dev": {}}),
    "volumes as a list": execution(Volumes=["/data"]),
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_malformed(document: Document) -> None:
    with pytest.raises(RefusedError) as caught:
        read(document)
    assert set(caught.value.codes) == {Code.OCI_MALFORMED}


@pytest.mark.parametrize("changes", [{"architecture": "arm64"}, {"os": "windows"}])
def test_another_platform(changes: Document) -> None:
    with pytest.raises(RefusedError, match="built for linux/amd64") as caught:
        read(execution() | changes)
    assert caught.value.codes == (Code.OCI_UNSUPPORTED,)
