"""The fault matrix: one row a fault, each run under a steady load whose whole history is checked afterwards.

A row is a function that gets a Run, makes its fault while the load is on, heals it, and may assert more than the
verdict that every row must meet: nothing lost, stuck, double, phantom, backwards, unexpected or wrong. Each row proves that its
fault took place; one that cannot is void, which is no better than failed. `NOT_HERE` names the rows that are not run, with
the reason; it is printed with the table.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import select
import signal
import tempfile
import threading
import time
import unittest.mock

from tests.harness import stack as stack_module
from tests.harness.ledger import Ledger
from tests.harness.proxy import Proxy
from tests.harness.stack import IS_SANITIZED, Stack, eventually

MODE = os.environ.get("PENSTOCK_FAULTS", "smoke")
ROWS = {}
RESULTS = []  # (row, counts, verdict)
NOT_HERE = {}
FORBIDDEN = ("lost", "stuck", "double", "phantom", "backwards", "unexpected", "wrong")
SMOKE_JOBS_MAX = 1500
LOAD = {"rate": 200, "jobs": 2400, "delay_ms": 30, "may_fail": False, "load": True, "shim": None, "proxied": None,
        "spared": False, "tenants": (), "failpoints": None, "recovery_max_s": None, "fd_max": 320, "rss_max_mib": 64}


class Void(AssertionError):
    """The fault did not take place: whatever held, held without it."""


@dataclasses.dataclass
class Row:
    number: str
    what: str
    run: object
    smoke: bool
    needs: object
    options: dict


def row(number, what, smoke=False, needs=None, **options):
    """Registers a row. options: arguments of Stack, and those of LOAD:

    rate, jobs, delay_ms   the load: submits a second, jobs in all, the upstream's time for each
    may_fail               jobs may end other than succeeded
    load                   False: no load and no ledger, the row brings its own
    shim                   "redis" or "penstock": who runs under the preload library; steered by run.steer
    proxied                "broker", "worker" or "all": whose connections to Redis go through run.proxy
    spared                 True: a second worker pool stands by that the fault does not hit
    tenants                names of tenants; without any, everybody may do everything. Their keys are in run.keys
    failpoints             lines that arm points of the test build, which runs then: see common/base/failpoint.h. Each point
                           must fire. () arms none at first: run.arm does, later
    recovery_max_s         most seconds from the heal to 90 % of the rate
    fd_max, rss_max_mib    how much more than at the beginning the largest process may hold at the end; its connections to
                           upstreams stay open for a while

    needs: a function that answers why the row cannot run here, or nothing.
    """
    def register(function):
        assert number not in ROWS, number
        ROWS[number] = Row(number, what, function, smoke, needs, options)
        return function
    return register


def not_here(number, what, why):
    NOT_HERE[number] = (what, why)


def memory_mib(pid):
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def descriptors(pid):
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


class Victim:
    """A process that was a child of this supervisor when it was looked up. Held by a pidfd: whoever has its number later
    is not meant, and not hit."""

    def __init__(self, process, pid):
        self.pid, self._fd = pid, os.pidfd_open(pid)
        if pid not in process.children():
            self.close()
            raise ProcessLookupError(pid)

    def signal(self, number):
        """False when it has ended already."""
        try:
            signal.pidfd_send_signal(self._fd, number)
            return True
        except ProcessLookupError:
            return False

    def is_alive(self):
        return not select.select([self._fd], [], [], 0)[0]

    def state(self):
        """One letter: R, S, T (stopped), Z."""
        with contextlib.suppress(OSError):
            return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return "Z"

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __del__(self):
        self.close()


def victims(process):
    """Every child that a supervisor has now."""
    found = []
    for pid in process.children():
        with contextlib.suppress(ProcessLookupError):
            found.append(Victim(process, pid))
    return found


class Failpoints:
    """Arms points of the test build through a file, and counts how often each fired."""

    def __init__(self, lines):
        self.folder = tempfile.TemporaryDirectory(prefix="penstock-points-")
        self.path = pathlib.Path(self.folder.name) / "armed"
        self.names = set()
        self.arm(*lines)

    def arm(self, *lines):
        """name action number every limit word; no line: nothing fires any more."""
        self.names |= {line.split()[0] for line in lines}
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in lines))
        fresh.rename(self.path)

    def fired(self, name):
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(f"{self.path}.fired").read_text().splitlines().count(name)
        return 0

    def check(self):
        for name in sorted(self.names):
            prove(self.fired(name) > 0, f"the point {name} never fired")


def prove(happened, what):
    """What shows that the fault took place."""
    if not happened:
        raise Void(f"void: {what}")


class Run:
    """What a row works with: the stack, the load, and the clock of its fault."""

    def __init__(self, stack, options):
        self.stack, self.options = stack, options
        self.ledger, self.proxy, self.steer, self.keys, self.points = None, None, None, {}, None
        self.healed_at, self.recovered_s = None, None
        self._samples, self._stop = [], threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def start_sampling(self):
        self._sampler.start()

    def _sample(self):
        while not self._stop.wait(0.1):
            with contextlib.suppress(Exception):
                requests = sum(sim.stats()["requests"] for sim in self.stack.sims)
                self._samples.append((time.monotonic(), requests))

    def stop_sampling(self):
        self._stop.set()
        if self._sampler.is_alive():
            self._sampler.join(10)

    def wait_share(self, share, seconds=120):
        """Until this share of the load has been submitted."""
        eventually(lambda: self.ledger.share_done() >= share or not self.ledger.is_submitting(), seconds,
                   f"{share:.0%} of the load")

    def hold(self, seconds):
        """The time a fault lasts: a duration under test, not a wait for something."""
        time.sleep(seconds)

    def healed(self):
        self.healed_at = time.monotonic()

    def rate(self, begin, end):
        inside = [sample for sample in self._samples if begin <= sample[0] <= end]
        if len(inside) < 2:
            return 0.0
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def recovery_s(self):
        """Seconds from the heal until upstream calls come at 90 % of the load's rate."""
        for moment, _ in self._samples:
            if moment >= self.healed_at and self.rate(moment - 0.05, moment + 0.6) >= 0.9 * self.options["rate"]:
                return moment - self.healed_at
        return None

    def hit_child(self, process, index=0, number=signal.SIGKILL):
        """A signal for one child of a supervisor, which is waited for to have one: its Victim."""
        children = eventually(lambda: victims(process), 20, f"{process.name} has a child")
        victim = children[index % len(children)]
        prove(victim.signal(number), f"child {victim.pid} of {process.name} had ended by itself")
        return victim

    def kill_child(self, process, index=0, number=signal.SIGKILL):
        """The same; its pid."""
        return self.hit_child(process, index, number).pid

    def executions(self):
        """Upstream calls of each nonce."""
        counts = {}
        for sim in self.stack.sims:
            for nonce, count in sim.nonces().items():
                counts[nonce] = counts.get(nonce, 0) + count
        return counts

    def processes(self):
        """Pids of every child that serves."""
        pids = []
        for process in (self.stack.broker, *self.stack.workers):
            if process.is_alive():
                pids += process.children()
        return pids

    def usage(self):
        """The most descriptors and memory (MiB) of any child."""
        pids = self.processes()
        return max(map(descriptors, pids), default=0), max(map(memory_mib, pids), default=0.0)


def make_shim():
    """The preload library and the file that steers it: (environment, function that steers)."""
    library = os.environ.get("PENSTOCK_SHIM")
    assert library and pathlib.Path(library).exists(), "the preload library is not built"
    handle, path = tempfile.mkstemp(prefix="penstock-shim-")
    os.close(handle)

    def steer(sync_ms=0, sync_errno=0, clock_ms=0):
        fresh = pathlib.Path(path + ".new")
        fresh.write_text(f"{sync_ms} {sync_errno} {clock_ms}\n")
        fresh.rename(path)

    steer()
    steer.path = path
    return {"LD_PRELOAD": library, "FAULT_SHIM": path}, steer


def failpoint_programs():
    folder = pathlib.Path(os.environ.get("PENSTOCK_FAILPOINT_BIN_DIR") or stack_module.BIN.parent / "failpoints" / "bin")
    assert (folder / "penstock-worker").exists(), "the build with failpoints is missing: make failpoint-programs"
    return folder


@contextlib.contextmanager
def prepared(entry, options):
    """The stack of a row, started, and its Run."""
    stack_options = {key: value for key, value in options.items() if key not in LOAD}
    stack_options = {"durability": "fsync", "brokers": 2, "children": 2, **stack_options}
    stack_options["config"] = {"worker": {"lease_ms": 3000}, **stack_options.get("config", {})}
    steer = None
    if options["shim"]:
        environment, steer = make_shim()
        stack_options["redis_env" if options["shim"] == "redis" else "env"] = environment
    stack_options.setdefault("start_worker", not options["proxied"])
    points, programs = None, contextlib.nullcontext()
    if options["failpoints"] is not None:
        points = Failpoints(options["failpoints"])
        stack_options["env"] = {**(stack_options.get("env") or {}), "FAILPOINTS": str(points.path)}
        programs = unittest.mock.patch.object(stack_module, "BIN", failpoint_programs())
    stack = Stack(**stack_options)
    run = Run(stack, options)
    run.steer, run.points = steer, points
    direct = {"redis": {"url": stack.redis.url}}
    through = direct
    if options["proxied"]:
        run.proxy = Proxy(str(stack.redis.socket_path))
        through = {"redis": {"url": f"redis://127.0.0.1:{run.proxy.port}"}}
        if options["proxied"] in ("broker", "all"):
            stack.change_config(through)
    if options["tenants"]:
        path = stack.folder / "keys.yaml"
        stack.change_config({"auth": {"mode": "keys", "keys_file": str(path)}})
        for tenant in options["tenants"]:
            done = stack.cli("keys", "add", tenant, "--keys-file", path, "--json")
            run.keys[tenant] = json.loads(done.stdout)["key"]
    try:
        with programs, stack:
            if options["proxied"]:
                stack.add_worker(direct if options["proxied"] == "broker" else through)
                if options["spared"]:
                    stack.add_worker(direct)
            yield run
    finally:
        run.stop_sampling()
        if run.proxy:
            run.proxy.close()
        if steer:
            for name in (steer.path, steer.path + ".synced"):
                pathlib.Path(name).unlink(missing_ok=True)


def execute(entry):
    """Runs one row; returns its line of the table. AssertionError when a verdict is broken."""
    options = {**LOAD, **entry.options}
    if MODE != "full":
        options["jobs"] = min(options["jobs"], SMOKE_JOBS_MAX)
    if IS_SANITIZED:
        options["rate"], options["jobs"] = options["rate"] // 2, options["jobs"] // 2
    result = dict.fromkeys((*FORBIDDEN, "extra", "accepted", "unknown", "rejected"), 0)
    wrong = []
    with prepared(entry, options) as run:
        if options["load"]:
            run.ledger = Ledger(run.stack.origin, options["jobs"], delay_ms=options["delay_ms"],
                                seed=int(entry.number[1:3]), rate=options["rate"]).start()
            run.start_sampling()
            run.wait_share(0.2)
        before = run.usage()
        entry.run(run)
        if run.healed_at is None:
            run.healed()
        result["recovery_s"] = run.recovered_s
        if run.ledger:
            run.ledger.join()
            left = run.ledger.drain(120)
            counts, wrong = run.ledger.verdict(run.executions(), options["may_fail"])
            result.update(counts)
            result["stuck"] = max(result["stuck"], len(left))
            assert counts["accepted"] >= options["jobs"] // 3, f"{counts['accepted']} accepted: too few to tell"
            run.stop_sampling()
            if run.recovered_s is None:
                result["recovery_s"] = run.recovery_s()
        after = run.usage()
        result["fd"], result["rss"] = after[0] - before[0], after[1] - before[1]
        broken = {name: result[name] for name in FORBIDDEN if result[name]}
        assert not broken, f"{entry.number}: {broken}\n" + "\n".join(wrong[:20])
        if run.points:
            run.points.check()
        if options["recovery_max_s"]:
            prove(result["recovery_s"] is not None, "the load had ended before the rate was back")
            assert result["recovery_s"] <= options["recovery_max_s"], f"recovery took {result['recovery_s']:.1f} s"
        assert result["fd"] <= options["fd_max"], f"{result['fd']} descriptors more than before"
        assert result["rss"] <= options["rss_max_mib"] * (4 if IS_SANITIZED else 1), f"{result['rss']:.1f} MiB more"
    return result


def limit_descriptors(pid, extra):
    """Leaves a process room for `extra` further descriptors; returns its old limit."""
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + extra, old[1]))
    return old
