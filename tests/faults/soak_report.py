"""What the soak samples of every process, the slopes of that, and the page."""

import contextlib
import math
import os
import pathlib
import statistics
import threading
import time

from tests.harness import svg
from tests.harness.stack import ROOT

TICK = os.sysconf("SC_CLK_TCK")
YOUNG_S = 60                # a process this young still fills its pools
MIB_PER_HOUR_MAX = 1.0
FDS_PER_HOUR_MAX = 2.0
KEPT = ("worker supervisor, spared", "worker child, spared", "broker parent", "broker child, spared")


def usage(pid):
    """(RssAnon MiB, descriptors, CPU seconds, age s) of a process; None when it has gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        anon = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
        up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
        return anon, len(os.listdir(f"/proc/{pid}/fd")), (int(fields[11]) + int(fields[12])) / TICK, up - int(fields[19]) / TICK
    except (OSError, StopIteration, IndexError):
        return None


def busy_seconds():
    """CPU seconds the whole machine has worked, and those there were."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK, sum(fields) / TICK


def standstill_s(times, each_s):
    """The longest time that nothing was sampled at all, beyond what lies between two samples."""
    return max((later - earlier for earlier, later in zip(times, times[1:])), default=0.0) - each_s


class Sampler:
    """Every `each_s`: each process by role, and what Redis holds apart from the list of ids it keeps for days."""

    def __init__(self, scene, store, load, each_s=10.0):
        self._scene, self._store, self._load, self._each_s = scene, store, load, each_s
        self.began, self.rows, self.redis, self.machine = time.monotonic(), [], [], []
        self.calls, self.log_bytes_max = [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._sample_all, self._count_all)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(40)

    def standstill_s(self):
        return standstill_s([row[0] for row in self.machine], self._each_s)

    def roles(self):
        """(role, pid) of every process of now."""
        stack, scene = self._scene.stack, self._scene
        found = [("redis-server", stack.redis.pid), ("simulator", stack.sim.pid), ("broker parent", stack.broker.pid)]
        for pid in stack.broker.children():
            found.append(("broker child, spared" if pid == scene.spared_broker else "broker child", pid))
        for pool in list(stack.workers):
            more = ", spared" if pool is scene.spared_pool else ""
            if pool.is_alive():
                found += [("worker supervisor" + more, pool.pid), *(("worker child" + more, pid) for pid in pool.children())]
        return found

    def _sample_all(self):
        while True:
            now = time.monotonic() - self.began
            with contextlib.suppress(OSError, AttributeError):  # a process that a fault replaces just now
                for role, pid in self.roles():
                    one = usage(pid)
                    if one:
                        self.rows.append((now, role, pid, *one))
            with contextlib.suppress(OSError, TypeError, ValueError, AttributeError):
                self.redis.append((now, self.redis_mib(), len(self._load.live)))
            self.machine.append((now, *busy_seconds()))
            self._bound_logs()
            if self._stop.wait(self._each_s):
                return

    def redis_mib(self):
        """used_memory without `{s}:i:…` (22 bytes a job for days, by design; more for what came out of order)."""
        used = int(self._store.command("INFO", "memory").split("used_memory:")[1].split()[0])
        lists = []
        for shard in range(4):
            hours = self._store.command("ZRANGE", f"{{{shard}}}:I:{self._tenant()}", 0, -1) if self._tenant() else []
            lists += [f"{{{shard}}}:i:{self._tenant()}:{hour}{late}" for hour in hours or [] for late in ("", ":l")]
        sizes = self._store.commands([("MEMORY", "USAGE", name) for name in lists])
        return (used - sum(size or 0 for size in sizes)) / 1048576

    def _tenant(self):
        if not getattr(self, "_name", None):
            cursor, self._name = "0", None
            while True:
                cursor, found = self._store.command("SCAN", cursor, "MATCH", "{*}:I:*", "COUNT", 1000)
                if found:
                    self._name = found[0].rsplit(":", 1)[1]
                if cursor == "0" or self._name:
                    break
        return self._name

    def _count_all(self):
        """How many jobs have ended, twice a second: the rate from which a fault's recovery is read."""
        while not self._stop.wait(0.5):
            with contextlib.suppress(Exception):
                self.calls.append((time.monotonic(), self._scene.stack.sim.stats()["executions"]))
            del self.calls[:-240]

    def _bound_logs(self):
        for path in self._scene.stack.folder.glob("*.log"):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                self.log_bytes_max = max(self.log_bytes_max, size)
                if size > 64 << 20:  # opened for appending by all who write it
                    os.truncate(path, 0)

    def recovery_s(self, healed, rate):
        """Seconds from a heal until upstream calls come at 90 % of the rate again; None when not seen yet."""
        calls = list(self.calls)
        for (begin, before), (end, after) in zip(calls, calls[2:]):
            if begin >= healed - 0.5 and (after - before) / (end - begin) >= 0.9 * rate:
                return max(0.0, begin - healed)
        return None


def slope(groups):
    """Common slope of several lines of (x, y), each with a level of its own, and its standard error.

    x is in hours. A fault makes peaks of seconds, a leak raises what lies under them: of every three minutes (of short lines: a
    twentieth) the lowest value counts.
    """
    groups = [_lowest(group) for group in groups if len(group) >= 10]
    above = below = 0.0
    for group in groups:
        x_mean, y_mean = (statistics.fmean(part) for part in zip(*group))
        above += sum((x - x_mean) * (y - y_mean) for x, y in group)
        below += sum((x - x_mean) ** 2 for x, _ in group)
    free = sum(map(len, groups)) - len(groups) - 1
    if below <= 0 or free < 3:
        return None, None
    value = above / below
    left = 0.0
    for group in groups:
        x_mean, y_mean = (statistics.fmean(part) for part in zip(*group))
        left += sum((y - y_mean - value * (x - x_mean)) ** 2 for x, y in group)
    return value, math.sqrt(left / free / below)


def _lowest(group):
    begin, width = group[0][0], min(3 / 60, max((group[-1][0] - group[0][0]) / 20, 1e-6))
    windows = {}
    for x, y in group:
        windows.setdefault(int((x - begin) / width), []).append((x, y))
    return [(statistics.fmean(x for x, _ in window), min(y for _, y in window)) for window in windows.values()]


def grows(groups, limit):
    value, error = slope(groups)
    return value is not None and value - 2 * error > limit


def verdict_of(groups, limit):
    """"flat": the slope is not above the limit beyond its own noise (two standard errors). "GROWS": it is, and in each third of the
    time too. "steps": it is, but not in each third: what a fault of its kind needed for the first time, and kept since."""
    if slope(groups)[0] is None:
        return "too few samples"
    if not grows(groups, limit):
        return "flat"
    first, last = (choose(x for group in groups for x, _ in group) for choose in (min, max))
    edges = [first + (last - first) * part / 3 for part in range(4)]
    thirds = [[[point for point in group if low <= point[0] <= high] for group in groups] for low, high in zip(edges, edges[1:])]
    return "GROWS" if all(grows(third, limit) for third in thirds) else "steps"


WORST = ("GROWS", "steps", "too few samples", "flat")


def slopes(sampler, skip_s):
    """[(role, processes, lives s, first MiB, last MiB, slope, error, fd slope, fd error, verdict, judged)]"""
    table = []
    for role in sorted({row[1] for row in sampler.rows} - {"simulator"}):
        lives = {}
        for now, name, pid, anon, fds, _, age in sampler.rows:
            if name == role and now >= skip_s and age >= min(YOUNG_S, skip_s):
                lives.setdefault(pid, []).append((now / 3600, anon, fds))
        if not lives:
            continue
        memory = [[(x, y) for x, y, _ in life] for life in lives.values()]
        files = [[(x, y) for x, _, y in life] for life in lives.values()]
        anon, fds, judged = slope(memory), slope(files), role in KEPT
        verdict = min(verdict_of(memory, MIB_PER_HOUR_MAX), verdict_of(files, FDS_PER_HOUR_MAX), key=WORST.index)
        ordered = sorted(point for life in lives.values() for point in life)
        edge = max(1, len(ordered) // 10)
        table.append((role, len(lives), statistics.median(y for _, y, _ in ordered[:edge]),
                      statistics.median(y for _, y, _ in ordered[-edge:]), *anon, *fds, verdict, judged))
    held = [(now / 3600, mib) for now, mib, _ in sampler.redis if now >= skip_s]
    if held:
        anon = slope([held])
        edge = max(1, len(held) // 10)
        table.append(("what Redis holds", 1, statistics.median(y for _, y in held[:edge]),
                      statistics.median(y for _, y in held[-edge:]), *anon, None, None, verdict_of([held], MIB_PER_HOUR_MAX), True))
    return table


def with_error(value, error):
    return "–" if value is None else f"{value:+.2f} ± {2 * error:.2f}"


def slope_lines(table, is_judged):
    lines = ["| Process | Lives | RssAnon MiB, begin → end | MiB an hour | Descriptors an hour | |", "|---|--:|---|--:|--:|---|"]
    for role, lives, first, last, anon, anon_error, fds, fds_error, verdict, judged in table:
        lines.append(f"| {role} | {lives} | {first:.2f} → {last:.2f} | {with_error(anon, anon_error)} | "
                     f"{with_error(fds, fds_error)} | {verdict if judged and is_judged else 'too short a run' if judged else 'replaced by faults: not judged'} |")
    return lines


def cpu_lines(sampler):
    """CPU a second of each role, over the whole run; deaths lose at most ten seconds of a life."""
    totals, lives = {}, {}
    for _, role, pid, _, _, cpu, _ in sampler.rows:
        first, last = lives.get((role, pid), (cpu, cpu))
        lives[role, pid] = (first, max(last, cpu))
    for (role, _), (first, last) in lives.items():
        totals[role] = totals.get(role, 0.0) + last - first
    span = max(sampler.rows[-1][0] - sampler.rows[0][0], 1e-9)
    busy = (sampler.machine[-1][1] - sampler.machine[0][1]) / max(sampler.machine[-1][2] - sampler.machine[0][2], 1e-9)
    return ", ".join(f"{role} {total / span:.1%}" for role, total in sorted(totals.items())), busy


def plots(sampler, minutes):
    """{file name: text of an SVG}"""
    names = sorted({row[1] for row in sampler.rows} - {"simulator", "redis-server"})
    marks = [minute for minute, *_ in minutes]
    memory = {name: _by_time(sampler.rows, name, 3, max) for name in names}
    fds = {name: _by_time(sampler.rows, name, 4, max) for name in [*names, "redis-server"]}
    redis = {"what Redis holds": [(now / 60, mib) for now, mib, _ in sampler.redis],
             "RssAnon of redis-server": _by_time(sampler.rows, "redis-server", 3, max)}
    return {"soak-memory.svg": svg.lines("Memory of Penstock's processes during the soak", memory, "minutes; thin lines are faults",
                                         "RssAnon, MiB (largest process of a role)", marks),
            "soak-descriptors.svg": svg.lines("Open descriptors during the soak", fds, "minutes; thin lines are faults",
                                              "descriptors (largest process of a role)", marks),
            "soak-redis.svg": svg.lines("Redis during the soak", redis, "minutes; thin lines are faults", "MiB", marks)}


def _by_time(rows, role, column, choose):
    found = {}
    for row in rows:
        if row[1] == role:
            found.setdefault(round(row[0] / 60, 3), []).append(row[column])
    return [(at, choose(values)) for at, values in sorted(found.items())]


def page(facts, slope_table, minutes, verdict_lines):
    head = (ROOT / "tests/faults/soak_page.md").read_text().rstrip()
    lines = [head, "", "## The last run", "", *facts, "", *verdict_lines, "", "### Slopes", "", *slope_table, "",
             "![memory](plots/soak-memory.svg)", "", "![descriptors](plots/soak-descriptors.svg)", "",
             "![Redis](plots/soak-redis.svg)", "", "### Faults", "",
             "| Minute | Fault | Took s | Recovery s |", "|--:|---|--:|--:|"]
    for minute, name, took, recovery in minutes:
        lines.append(f"| {minute:.1f} | {name} | {took:.1f} | {'not seen' if recovery is None else f'{recovery:.1f}'} |")
    return "\n".join(lines) + "\n"
