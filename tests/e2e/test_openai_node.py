"""The official npm OpenAI SDK with only the base URL changed (it needs Node 22: the npm package `node`)."""

import json
import os
import pathlib
import subprocess

import pytest

from tests.harness.stack import SLOW, clean_environment

HERE = pathlib.Path(__file__).parent / "node"
MODULES = pathlib.Path(os.environ.get("PENSTOCK_NODE_DIR", HERE / "node_modules"))


@pytest.mark.parametrize("package", ["openai", "openai6"])
def test_node_sdk(stack, package):
    done = subprocess.run([str(MODULES / ".bin" / "node"), str(HERE / "openai_calls.mjs"), package],
                          capture_output=True, text=True, timeout=120 * SLOW, check=False, cwd=HERE,
                          env={**clean_environment(), "BASE_URL": f"{stack.origin}/v1", "OPENAI_API_KEY": "any"})
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    failed = {name: why for name, why in results.items() if why != "ok"}
    assert not failed and len(results) >= 7, failed
