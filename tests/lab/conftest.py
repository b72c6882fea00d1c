"""Fixtures of the namespace tests: a lab, and tapbond running in it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tapbond.lab import Lab
from tapbond.lab.process import FailoverProcess


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def datapath() -> str:
    """What carries the frames; tests with the mark ``both_paths`` run with either.

    Those that are marked ``two_queues`` also run with two queues: ``copy/2``.
    """
    return "copy"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "datapath" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_paths"):
        queues = ["copy/2"] if metafunc.definition.get_closest_marker("two_queues") else []
        metafunc.parametrize("datapath", ["copy", "redirect", *queues])


@pytest.fixture
def start(tmp_path: Path, datapath: str) -> Iterator[Callable[..., FailoverProcess]]:
    """Start ``tapbond run`` in a lab's host; it is stopped at the end."""
    with ExitStack() as running:

        def run(lab: Lab, *options: str, name: str = "tb0", wait: bool = True) -> FailoverProcess:
            options = options or ("--standby", "eth0", "--primary", "eth1")
            if "--datapath" not in options:
                path, _, queues = datapath.partition("/")
                options = (*options, "--datapath", path, "--queues", queues or "1")
            process = running.enter_context(FailoverProcess(lab.host, name, *options, run_dir=tmp_path))
            if wait:
                process.wait_ready()
                lab.address_failover(name)
            return process

        yield run


@pytest.fixture(params=["bridge", "nft"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)
