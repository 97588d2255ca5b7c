import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.harness.stack import Stack  # noqa: E402


@pytest.fixture(scope="module")
def stack():
    """One whole system for a module's tests; each test uses jobs of its own."""
    with Stack() as running:
        yield running


@pytest.fixture
def api(stack):
    client = stack.api()
    yield client
    client.close()
