"""What was mistyped is answered with the name that is nearest to it: a command, an option, a machine, an image."""

import pytest

from tests.unit.cli.station import Station


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("luanch",), "'launch'"),
        (("plan", "creat"), "'create'"),
        (("image", "lss"), "'ls'"),
        (("run", "--memroy", "512", "."), "'--memory'"),
        (("plan", "create", "--volum", "/a:/b", "."), "'--volume'"),
        (("launch", "--dettach", "plan.json"), "'--detach'"),
        (("exec", "--interactiv", "web", "true"), "'--interactive'"),
        (("ps", "--fliter", "x"), "'--filter'"),
    ],
)
def test_a_command_or_an_option(station: Station, typed: tuple[str, ...], meant: str) -> None:
    said = station.mvm(*typed)
    assert (said.code, said.out) == (2, "")
    assert "id you mean" in said.err
    assert meant in said.err


def test_what_is_like_nothing(station: Station) -> None:
    said = station.mvm("qqqqq")
    assert (said.code, "No such command 'qqqqq'" in said.err, "ou mean" in said.err) == (2, True, False)


def test_a_machine(settled: Station) -> None:
    assert settled.mvm("run", "--name", "website", settled.flake(), "--", "true").code == 0
    (machine,) = (it["id"] for it in settled.mvm("ps", "--all", "--json").answer("machines"))
    for typed in (("logs", "webiste"), ("rm", "webiste"), ("exec", "webiste", "true"), ("start", "webiste")):
        said = settled.mvm(*typed)
        assert (said.code, said.out) == (2, "")
        assert "no machine with the name or id 'webiste'" in said.err
        assert "did you mean website? mvm ps --all lists them" in said.err
    turned = machine[1] + machine[0] + machine[2:-1] + ("0" if machine[-1] != "0" else "1")
    assert f"did you mean {machine}? " in settled.mvm("logs", turned).err
    assert "did you mean website? " in settled.mvm("show", "webiste").err
    assert "did you mean" not in settled.mvm("logs", "qqqqq").err


def test_an_image(settled: Station) -> None:
    settled.flake("greeting")
    for command in ("inspect", "rm"):
        said = settled.mvm("image", command, "greetnig")
        assert (said.code, said.out) == (2, "")
        assert "did you mean greeting? mvm image ls lists them" in said.err
    assert "did you mean" not in settled.mvm("image", "rm", "qqqqq").err
