"""Rows G: clocks, descriptors, memory and processors of the host."""

import contextlib
import os
import pathlib
import resource
import socket

from tests.faults.matrix import descriptors, limit_descriptors, prove, row
from tests.harness.stack import eventually, http_call

GROUPS = pathlib.Path("/sys/fs/cgroup")


def group_folder(controller, name=""):
    """Where a control group of this controller lies: version 1 has a tree for each, version 2 one for all."""
    tree = GROUPS / controller if (GROUPS / controller).is_dir() else GROUPS
    return tree / name if name else tree


def needs_group(controller, *files):
    def why_not():
        folder = group_folder(controller, f"penstock-probe-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            return f"no {controller} control group can be made here"
        has = any((folder / file).exists() for file in files)
        folder.rmdir()
        return None if has else f"control groups have no {controller} limit here"
    return why_not


@contextlib.contextmanager
def group(controller, pids, limits):
    """Processes in a control group of their own; limits: {file: value}, of which those that exist are set."""
    folder = group_folder(controller, f"penstock-{os.getpid()}")
    folder.mkdir()
    try:
        for file, value in limits.items():
            if (folder / file).exists():
                (folder / file).write_text(str(value))
        for pid in pids:
            (folder / "cgroup.procs").write_text(str(pid))
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group_folder(controller) / "cgroup.procs").write_text(pid)
        eventually(lambda: not (folder / "cgroup.procs").read_text().strip(), 10, "the group is empty")
        folder.rmdir()


@row("F76", "the clocks of brokers and workers are a day ahead, then a day behind", shim="penstock", jobs=3000)
def clocks_of_ours(run):
    for ahead_ms in (86_400_000, 0, -86_400_000):
        run.steer(clock_ms=ahead_ms)
        run.hold(2)
    run.steer()
    run.healed()


@row("F77", "brokers and workers have eight descriptors left", jobs=3600, delay_ms=300)
def no_descriptors(run):
    pids = run.processes()
    old = {pid: limit_descriptors(pid, 8) for pid in pids}
    clients = []
    host, port = run.stack.origin.removeprefix("http://").rsplit(":", 1)
    try:
        for _ in range(40):
            clients.append(socket.create_connection((host, int(port))))
        run.hold(4)
        assert any(descriptors(pid) >= resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] - 1 for pid in pids)
    finally:
        for client in clients:
            client.close()
        for pid, limit in old.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
    run.healed()
    assert sorted(run.processes()) == sorted(pids), "a process died"
    run.stack.wait_ready()


@row("F79", "a tenth of a processor for all of Penstock, for 8 s", rate=100, jobs=1800,
     needs=needs_group("cpu", "cpu.cfs_quota_us", "cpu.max"))
def no_processor(run):
    with group("cpu", run.processes(), {"cpu.cfs_quota_us": 10000, "cpu.cfs_period_us": 100000,
                                        "cpu.max": "10000 100000"}) as folder:
        run.hold(8)
        throttled = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        prove(int(throttled["nr_throttled"]) > 20, f"hardly throttled: {throttled}")
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(60)
    assert sum(run.stack.sim.nonces().values()) <= 1.02 * run.options["jobs"], "leases lapsed"


@row("F82", "no process of ours can start another for 5 s, while children die", needs=needs_group("pids", "pids.max"))
def no_processes(run):
    pids = [run.stack.worker.pid, run.stack.broker.pid, *run.processes()]
    with group("pids", pids, {"pids.max": len(pids)}) as folder:
        (folder / "pids.max").write_text("1")
        run.kill_child(run.stack.worker)
        run.kill_child(run.stack.broker)
        run.hold(5)
        prove("child_not_started" in run.stack.worker.log(1 << 20), "a child could be started")
        assert run.stack.worker.is_alive() and run.stack.broker.is_alive()
        (folder / "pids.max").write_text("max")
        eventually(lambda: len(run.stack.worker.children()) == 2 and len(run.stack.broker.children()) == 2, 40,
                   "all children are back")
    eventually(lambda: http_call(run.stack.origin, "GET", "/readyz")[0] == 200, 20, "they serve")
    run.healed()
