"""What the benchmarks measure with: tools, processor time, memory, and a stack with its limits out of the way."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time

from tests.harness.stack import ROOT, Stack, chat

TOOLS = pathlib.Path(os.environ.get("PENSTOCK_BENCH_DIR", ROOT / "build" / "tests" / "bench"))


def tool(name, *args):
    done = subprocess.run([str(TOOLS / name), *map(str, args)], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return json.loads(done.stdout)


def load(address, connections, *args, seconds=None, requests=None):
    size = ("--seconds", seconds) if seconds else ("--requests", requests)
    return tool("load", "--address", address, "--connections", connections, *size, *args)


def kilobyte_job(model="sim-model", **more):
    return json.dumps({"endpoint": "/v1/chat/completions", "body": chat("x" * 800, model=model), **more})


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(number) for number in task.read_text().split()]
    return found


def cpu_seconds(pid):
    """Processor time of a process, its threads and its children of now."""
    total = 0
    for number in [pid, *children(pid)]:
        for task in pathlib.Path(f"/proc/{number}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def memory_mib(pid, name):
    """A line of /proc/<pid>/status: RssAnon, VmRSS, VmHWM."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def wait_and_peak(process):
    """Waits for a process of subprocess: its usage and peak memory in MiB, looked at every 10 ms. ru_maxrss would
    be at least ours: Linux hands it on to what we start."""
    peak, pid = 0.0, 0
    while pid == 0:
        peak = max(peak, memory_mib(process.pid, "VmHWM"))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid == 0:
            time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage, peak


def forget_peak(pid):
    """VmHWM starts again from what is resident now."""
    with contextlib.suppress(OSError):
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def stack_pids(stack):
    """Every process of Penstock and its Redis."""
    return [stack.broker.pid, *stack.broker.children(), stack.worker.pid, *stack.worker.children(), stack.redis.pid]


def big_stack(durability="memory", concurrency=256, config=None, **more):
    """One broker process, one worker child, limits out of the way."""
    config = {"redis": {"shards": 16}, "log": {"level": "warn", "format": "text"}, **(config or {})}
    return Stack(durability=durability, brokers=1, children=1, config=config, upstream={"concurrency": concurrency}, **more)


class Totals:
    """How many jobs of a route have succeeded: straight from Redis (docs/redis-keys.md), cheap enough to ask every 10 ms."""

    def __init__(self, stack, route):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(stack.redis.socket_path))
        self._shards = stack.config["redis"]["shards"]
        self._command = "".join(f"HGET {{{shard}}}:c:{route} succeeded\r\n" for shard in range(self._shards)).encode()

    def succeeded(self):
        self._socket.sendall(self._command)
        lines, text = [], b""
        while len(lines) < self._shards:
            text += self._socket.recv(65536)
            lines = [line for line in text.split(b"\r\n")[:-1] if line.isdigit() or line == b"$-1"]
        return sum(int(line) for line in lines if line.isdigit())
