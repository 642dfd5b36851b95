"""The guest agent in its test mode, for the tests that speak with it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.agent_house import SOURCES, free_port


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled once."""
    where = tmp_path_factory.mktemp("agent")
    for file in SOURCES.iterdir():
        if file.suffix in {".c", ".h"} or file.name == "Makefile":
            shutil.copy(file, where)
    subprocess.run(["make", "-s", "-C", where, "agent-test"], check=True)
    return where / "agent-test"


@pytest.fixture
def port() -> int:
    """One that nobody listens at."""
    return free_port()
