"""The peers of the benchmark: what a user would pick instead, run on the same machine in the same run.

They come from the package registries into a folder of the build. What cannot be installed or run is skipped, by name and with the reason.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

from tests.bench.measure import wait_and_peak

HERE = pathlib.Path(__file__).parent / "peers"
FOLDER = pathlib.Path(os.environ.get("PENSTOCK_PEERS_DIR", pathlib.Path(__file__).resolve().parents[2] / "build" / "peers"))
INSTALL_S = 240


class Skipped(Exception):
    """This peer cannot run here; the text says why."""


_broken = {}  # what could not be installed: not tried again


def _run(args, seconds=300, **more):
    try:
        done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=seconds, check=False, **more)
    except subprocess.TimeoutExpired as error:
        raise Skipped(f"it took longer than {seconds} s") from error
    except OSError as error:
        raise Skipped(str(error)) from error
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).splitlines()
        why = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")
        raise Skipped(f"it ended with {done.returncode}: {why.strip()[:160]}")
    return done.stdout


def _last_json(text):
    try:
        return json.loads(text.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Skipped(f"it said no figures: {text[-100:]!r}") from error


def _once(name, install):
    if name in _broken:
        raise Skipped(_broken[name])
    try:
        install()
    except Skipped as reason:
        _broken[name] = f"{name} cannot be installed: {reason}"
        raise Skipped(_broken[name]) from reason


def node():
    """The folder with the npm packages installed."""
    def install():
        if not shutil.which("npm"):
            raise Skipped("there is no npm")
        FOLDER.mkdir(parents=True, exist_ok=True)
        for file in HERE.glob("*.*"):
            shutil.copy(file, FOLDER / file.name)
        if not (FOLDER / "node_modules" / ".installed").exists():
            try:
                _run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], INSTALL_S, cwd=FOLDER)
                _run([FOLDER / "node_modules" / ".bin" / "node", "--version"])
            except Skipped:
                shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
                raise
            (FOLDER / "node_modules" / ".installed").touch()
    _once("npm packages", install)
    return FOLDER


def _node():
    """The Node that came with the packages: the newest SDKs want 22."""
    return node() / "node_modules" / ".bin" / "node"


def _celery():
    venv = FOLDER.parent / "peers-venv"

    def install():
        if not (venv / ".installed").exists():
            _run([sys.executable, "-m", "venv", venv], INSTALL_S)
            _run([venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "celery[redis]", "requests"], INSTALL_S)
            (venv / ".installed").touch()
    _once("Celery", install)
    return venv


def install():
    """Everything that can be installed, before anything is measured."""
    for one in (node, _celery):
        try:
            one()
        except Skipped:
            pass  # said where the peer would have run


def node_fanout(client, origin, count, kind):
    return _last_json(_run([_node(), node() / "fanout.mjs", client, origin, count, kind], cwd=node()))


def python_fanout(client, origin, count, kind):
    return _last_json(_run([sys.executable, HERE / "fanout.py", client, origin, count, kind]))


def bullmq(socket_path, origin, count):
    return _last_json(_run([_node(), node() / "bullmq.mjs", socket_path, origin, count], cwd=node()))["rate"]


def node_loop(processes):
    """The rate of loops written by hand, as queues.queue_peer_rate wants it."""
    return lambda socket_path, origin, count: _last_json(_run([_node(), node() / "loop.mjs", socket_path, origin, count, processes],
                                                              cwd=node()))["rate"]


def fastify_front(socket_path):
    """A running process and its port."""
    process = subprocess.Popen([str(_node()), str(node() / "front.mjs"), str(socket_path)], cwd=node(), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    limit = threading.Timer(30, process.kill)  # a front that says nothing must not hold up the run
    limit.start()
    line = process.stdout.readline()
    limit.cancel()
    if not line.strip().isdigit():
        process.kill()
        process.wait()
        raise Skipped("the Fastify front did not start")
    return process, int(line)


def celery(socket_path, origin, count):
    venv = _celery()
    return _last_json(_run([venv / "bin" / "python", HERE / "celery_app.py", origin, count],
                           env={**os.environ, "BENCH_SOCKET": str(socket_path)}))["rate"]


def bullmq_pickup(socket_path, count):
    return _last_json(_run([_node(), node() / "pickup.mjs", socket_path, count], cwd=node()))


def celery_pickup(socket_path, count):
    return _last_json(_run([_celery() / "bin" / "python", HERE / "celery_app.py", "pickup", count],
                           env={**os.environ, "BENCH_SOCKET": str(socket_path)}))


def curl_parallel(origin, count, kind, folder):
    """curl --parallel with one configuration file."""
    if not shutil.which("curl"):
        raise Skipped("there is no curl")
    is_chat = kind == "chat"
    body = {"model": "sim-model", **({"messages": [{"role": "user", "content": "prompt"}]} if is_chat else {"input": "document"})}
    (folder / "curl-body.json").write_text(json.dumps(body))
    config = folder / "curl.conf"
    path = "chat/completions" if is_chat else "embeddings"
    config.write_text("next\n".join(f'url = "{origin}/v1/{path}"\noutput = /dev/null\ndata = "@{folder}/curl-body.json"\n'
                                    'header = "Content-Type: application/json"\nwrite-out = "%{http_code}\\n"\n'
                                    for _ in range(count)))
    process = subprocess.Popen(["curl", "--silent", "--parallel", "--parallel-immediate", "--parallel-max", "300", "--config",
                                str(config)], stdout=open(folder / "curl.out", "w"), stderr=subprocess.DEVNULL)
    begin, limit = time.monotonic(), threading.Timer(300, process.kill)
    limit.start()
    usage, peak = wait_and_peak(process)
    wall = time.monotonic() - begin
    limit.cancel()
    good = (folder / "curl.out").read_text().split().count("200")
    if not good:
        raise Skipped(f"curl ended with {process.returncode}")
    return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "rss_mib": peak, "errors": count - good}
