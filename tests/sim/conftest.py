import pathlib
import resource
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from sim_process import Sim  # noqa: E402

_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(_hard, 65536), _hard))  # thousands of clients live in this process


@pytest.fixture
def start_sim():
    """Start simulators with flags; each must end with status 0 and without a word on stderr."""
    started = []

    def start(*flags, **more):
        started.append(Sim(*flags, **more))
        return started[-1]

    yield start
    for one in started:
        assert one.stop() == (0, "")


@pytest.fixture(scope="module")
def shared():
    """One simulator for tests that leave nothing behind."""
    one = Sim()
    yield one
    assert one.stop() == (0, "")
