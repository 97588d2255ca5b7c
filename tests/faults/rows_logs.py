"""Rows beyond the shared matrix: where the log goes cannot take it. Work goes on; what is lost of the log is counted."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading

from tests.faults.matrix import row
from tests.harness.ledger import Ledger
from tests.harness.stack import chat, eventually

NAME = "penstock_log_lines_dropped_total"


def start_again(run, path):
    """Brokers and workers anew, with standard error leading to this file."""
    prefix = ("sh", "-c", f'exec "$@" 2>>{path}', "sh")
    old = run.stack.workers.pop()
    assert old.stop() == 0 and run.stack.broker.stop() == 0
    run.stack.start_broker(prefix=prefix)
    run.stack.wait_ready()
    run.stack.add_worker({"log": {"level": "debug"}}, prefix=prefix)


def work(run):
    """The load, with every line of the log that belongs to it; the verdict is the matrix' own."""
    run.ledger = Ledger(run.stack.origin, run.options["jobs"], delay_ms=10, seed=92, rate=run.options["rate"]).start()
    run.start_sampling()
    run.ledger.join()


@row("F92", "standard error is a full pipe that nobody reads", load=False, jobs=1200, children=1)
def pipe_full(run):
    path = run.stack.folder / "full.pipe"
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(ours, b"x" * 512)
        start_again(run, path)
        line = json.dumps({"endpoint": "/v1/chat/completions", "body": chat(model="sim-bulk")}) + "\n"
        api = run.stack.api()
        status, _, _ = api.request("POST", "/v1/jobs/bulk", line * 10000, {"Content-Type": "application/x-ndjson"}, 120)
        assert status == 200
        work(run)
        eventually(lambda: run.stack.metrics().get(NAME, 0), 30, "lost lines are counted")
        assert run.usage()[1] < 64, run.usage()
        os.kill(run.stack.broker.children()[0], signal.SIGTERM)  # they can stop, too
        text = []
        threading.Thread(target=read_all, args=(ours, text), daemon=True).start()
        eventually(lambda: b"job_succeeded" in b"".join(text), 10, "once somebody reads, there is a log again")
        run.stack.wait_ready()
    finally:
        os.close(ours)
    run.healed()


def read_all(descriptor, text):
    os.set_blocking(descriptor, True)
    with contextlib.suppress(OSError):
        while piece := os.read(descriptor, 65536):
            text.append(piece)


@row("F93", "the disk on which the log lies is full", load=False, jobs=1200,
     needs=lambda: None if os.geteuid() == 0 else "mounting a small disk takes root")
def disk_full(run):
    disk = run.stack.folder / "logs"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)
        start_again(run, disk / "all.log")
        work(run)
        assert eventually(lambda: run.stack.metrics().get(NAME, 0), 10, "lost lines are counted") > 0
        assert (disk / "all.log").stat().st_size == 0, "the disk was not full"
        (disk / "ballast").unlink()
        os.kill(run.stack.worker.children()[0], signal.SIGTERM)
        eventually(lambda: (disk / "all.log").stat().st_size > 0, 15, "with room there is a log again")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    run.healed()
