"""Rows of memory: control groups with a limit, and allocations that fail."""

import contextlib
import http.client
import json
import os
import pathlib
import socket
import threading
import time

from tests.faults.matrix import memory_mib, prove, row, victims
from tests.faults.rows_host import group, needs_group
from tests.harness.stack import chat, eventually, http_call

MIB = 1 << 20
LIMITED = needs_group("memory", "memory.limit_in_bytes", "memory.max")


def limits(mib):
    return {"memory.limit_in_bytes": mib * MIB, "memory.max": mib * MIB, "memory.swap.max": 0}


def kills(folder):
    """How often the kernel killed in this group."""
    for name in ("memory.events", "memory.oom_control"):
        for line in (folder / name).read_text().splitlines() if (folder / name).exists() else ():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


@row("F06", "a worker child takes all the memory of its control group: the kernel ends it alone", failpoints=(),
     needs=LIMITED, jobs=3000)
def memory_runaway(run):
    pids = [run.stack.worker.pid, *run.stack.worker.children()]
    before = {victim.pid: victim for victim in victims(run.stack.worker)}
    broker = [victim.pid for victim in victims(run.stack.broker)]
    with group("memory", pids, limits(160)) as folder:
        run.points.arm("worker-loop leak 400 1 1 -")
        eventually(lambda: kills(folder) == 1, 20, "the kernel has killed")
        eventually(lambda: sum(not victim.is_alive() for victim in before.values()) == 1, 10, "one child has ended")
        eventually(lambda: len(run.stack.worker.children()) == 2, 10, "it was replaced")
        run.healed()
        run.ledger.join()
        assert not run.ledger.drain(60)
        assert kills(folder) == 1, "one kill was not enough"
    assert run.stack.worker.is_alive() and run.stack.redis.is_alive()
    assert sorted(broker) == sorted(run.stack.broker.children()), "a broker died of it"


# One broker process takes at most 256 MiB of bodies in progress (broker.c); each of them is there once more while it is read
# and once more on its way to Redis.
BROKER_BOUND_MIB = 1024
BODY_BYTES = 15 * MIB


def send_slowly(host, port, stop, codes):
    """A large body, all but its last byte, which follows when everybody has come so far: its status."""
    body = b'{"endpoint":"/v1/chat/completions","body":{"model":"sim-heavy","messages":[{"role":"user","content":"' + \
        b"y" * BODY_BYTES + b'"}]}}'
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, port), timeout=60) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(head.encode() + body[:-1])
            stop.wait(60)
            sock.sendall(body[-1:])
        with contextlib.suppress(OSError):
            codes.append(sock.recv(12)[9:12].decode())


@row("F80", "thirty bodies of 15 MiB at once against a broker in a control group at its bound: refused before the kernel acts",
     load=False, needs=LIMITED, brokers=1, rss_max_mib=BROKER_BOUND_MIB)
def broker_memory(run):
    api = run.stack.api()
    api.json("POST", "/v1/queues/sim-heavy/pause", expect=200)
    children = run.stack.broker.children()
    host, port = run.stack.origin.removeprefix("http://").rsplit(":", 1)
    stop, codes, peak = threading.Event(), [], 0.0
    with group("memory", [run.stack.broker.pid, *children], limits(BROKER_BOUND_MIB)) as folder:
        senders = [threading.Thread(target=send_slowly, args=(host, int(port), stop, codes)) for _ in range(30)]
        for sender in senders:
            sender.start()
        settled = time.monotonic() + 4
        while any(sender.is_alive() for sender in senders):
            peak = max(peak, sum(map(memory_mib, children)))
            if time.monotonic() > settled:
                stop.set()
            time.sleep(0.02)
        assert kills(folder) == 0 and run.stack.broker.children() == children, "the kernel killed"
        assert http_call(run.stack.origin, "GET", "/readyz")[0] == 200
    refused = [code for code in codes if code in ("503", "429", "413")]
    prove(refused, f"nothing was refused: {sorted(codes)}, peak {peak:.0f} MiB")
    assert "202" in codes and set(codes) <= {"202", "503", "429", ""}, sorted(codes)
    assert api.finish(api.submit()["id"])["status"] == "succeeded"


class Patient:
    """A client of brokers that may die: asks again for up to 30 s."""

    def __init__(self, stack):
        self.origin = stack.origin

    def ask(self, method, path, body=None, headers=None):
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, data = http_call(self.origin, method, path, body, headers, timeout=10)
                if status not in (429, 503):
                    assert status in (200, 202), (method, path, status, data)
                    return json.loads(data)
            assert time.monotonic() < end, f"{method} {path}: no answer"
            time.sleep(0.05)

    def submit(self, key):
        job = {"endpoint": "/v1/chat/completions", "body": chat(user="sim:delay_ms=5")}
        return self.ask("POST", "/v1/jobs", job, {"Idempotency-Key": key})["id"]

    def finish(self, job_id):
        return eventually(lambda: (job := self.ask("GET", f"/v1/jobs/{job_id}"))["finished_at"] and job, 60, "it ends")


def start_again(start):
    """As a service manager would; the failures are few, so that one of the starts succeeds."""
    for _ in range(8):
        with contextlib.suppress(AssertionError):
            return start()
    raise AssertionError("it does not start")


def revive(process):
    """A supervisor that ended is started again."""
    if not process.is_alive():
        process.kill()
        start_again(lambda: process.start().line())


def scenario(stack, target, first):
    """Allocations of brokers or of workers fail, forty jobs are done meanwhile; how many failed."""
    counter = pathlib.Path(stack.folder, f"failed-{target}-{first}")
    env = {"LD_PRELOAD": os.environ["PENSTOCK_ALLOC_SHIM"], "FAULT_ALLOC": f"{first} 37 4 {counter}"}
    if target == "broker":
        stack.broker.kill()
        stack.env = env
        start_again(stack.start_broker)
        stack.env = None
    else:
        assert stack.workers[-1].stop() is not None
        start_again(lambda: stack.add_worker(env=env))
    client = Patient(stack)
    jobs = [client.submit(f"{target}-{first}-{number}") for number in range(40)]
    for job in jobs:
        revive(stack.broker)
        revive(stack.workers[-1])
        done = client.finish(job)
        assert done["status"] == "succeeded", done
    return counter.stat().st_size if counter.exists() else 0


@row("F81", "the Nth allocation of brokers, then of workers, fails: refused, or ended and started again; nothing is lost",
     load=False)
def allocations_fail(run):
    failed = {}
    for first in (1, 40, 300, 900, 1800, 3000, 5000, 9000):
        for target in ("broker", "worker"):
            failed[target, first] = scenario(run.stack, target, first)
    prove(sum(count > 0 for count in failed.values()) >= 8, f"too few failed: {failed}")
    logs = "".join(path.read_text(errors="replace") for path in run.stack.folder.glob("*.log"))
    assert "how=signal code=11" not in logs, "a process went on with memory it did not get"
