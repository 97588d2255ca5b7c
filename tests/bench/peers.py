"""The peers of the benchmark: what a user would pick instead, run on the same machine in the same run.

They come from the package registries into a folder of the build. What cannot be installed or run is skipped, by name and with the reason.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent / "peers"
FOLDER = pathlib.Path(os.environ.get("PENSTOCK_PEERS_DIR", pathlib.Path(__file__).resolve().parents[2] / "build" / "peers"))


class Skipped(Exception):
    """This peer cannot run here; the text says why."""


def _run(args, seconds=600, **more):
    try:
        done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=seconds, check=False, **more)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(str(error)) from error
    if done.returncode != 0:
        raise Skipped(next((line for line in (done.stderr + done.stdout).splitlines() if "rror" in line), "it failed")[:200])
    return done.stdout


def node():
    """The folder with the npm packages installed."""
    if not shutil.which("npm"):
        raise Skipped("npm is not installed")
    if not (FOLDER / "node_modules").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        for file in HERE.glob("*.*"):
            shutil.copy(file, FOLDER / file.name)
        try:
            _run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], cwd=FOLDER)
        except Skipped:
            shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
            raise
    for file in HERE.glob("*.*"):
        shutil.copy(file, FOLDER / file.name)
    return FOLDER


def _node():
    """The Node that came with the packages: the newest SDKs want 22."""
    return node() / "node_modules" / ".bin" / "node"


def node_fanout(client, origin, count):
    return json.loads(_run([_node(), node() / "fanout.mjs", client, origin, count], cwd=node()))


def bullmq(socket_path, origin, count):
    return json.loads(_run([_node(), node() / "bullmq.mjs", socket_path, origin, count], cwd=node()))["rate"]


def fastify_front(socket_path):
    """A running process and its port."""
    process = subprocess.Popen([str(_node()), str(node() / "front.mjs"), str(socket_path)], cwd=node(), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    if not line.strip().isdigit():
        process.kill()
        process.wait()
        raise Skipped("the Fastify front did not start")
    return process, int(line)


def celery(socket_path, origin, count):
    venv = FOLDER.parent / "peers-venv"
    if not (venv / "bin" / "celery").exists():
        _run([sys.executable, "-m", "venv", venv])
        _run([venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "celery[redis]", "requests"])
    out = _run([venv / "bin" / "python", HERE / "celery_app.py", origin, count],
               env={**os.environ, "BENCH_SOCKET": str(socket_path)})
    return json.loads(out.splitlines()[-1])["rate"]


def curl_parallel(origin, count, folder):
    """curl --parallel with one configuration file; seconds."""
    body = folder / "curl-body.json"
    body.write_text(json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": "prompt"}]}))
    config = folder / "curl.conf"
    config.write_text("".join(f'url = "{origin}/v1/chat/completions"\noutput = /dev/null\ndata = "@{body}"\n'
                              'header = "Content-Type: application/json"\nnext\n' for _ in range(count)).rsplit("next\n", 1)[0])
    begin = time.monotonic()
    _run(["curl", "--silent", "--parallel", "--parallel-immediate", "--parallel-max", "300", "--config", config])
    return time.monotonic() - begin
