"""Benchmarks of the queue: submits, polls, throughput, latency of the idle path, memory."""

import json
import pathlib
import re
import tempfile
import time

from tests.bench import peers
from tests.bench.figures import Figure, Row, Table
from tests.bench.measure import (Totals, big_stack, cpu_seconds, kilobyte_job, load, memory_mib, tool)
from tests.harness.stack import Process, Redis, Sim, chat, eventually, free_port, http_call
from tests.bench import measure

NDJSON = {"Content-Type": "application/x-ndjson"}
IDS = re.compile(rb'"id":"(job_[0-9a-z]{34})"')


def address_of(origin):
    return origin.removeprefix("http://")


def bulk(stack, lines, count):
    status, _, data = http_call(stack.origin, "POST", "/v1/jobs/bulk", lines, NDJSON, timeout=300)
    ids = IDS.findall(data)
    assert status == 200 and len(ids) == count, (status, len(ids), data[:300])
    return ids


# --- submit ---------------------------------------------------------------------------------------


def submit_run(options, durability):
    with big_stack(durability, start_worker=False) as stack:
        body = stack.folder / "job.json"
        body.write_text(kilobyte_job())
        before = cpu_seconds(stack.broker.pid), cpu_seconds(stack.redis.pid)
        run = load(address_of(stack.origin), 64, "--method", "POST", "--path", "/v1/jobs", "--body", body, "--expect", 202,
                   seconds=options.seconds)
        run["broker_us"] = (cpu_seconds(stack.broker.pid) - before[0]) * 1e6 / run["requests"]
        run["redis_us"] = (cpu_seconds(stack.redis.pid) - before[1]) * 1e6 / run["requests"]
        return run


def post_rate(port, folder, seconds):
    body = folder / "job.json"
    body.write_text(kilobyte_job())
    return load(f"127.0.0.1:{port}", 64, "--method", "POST", "--path", "/v1/jobs", "--body", body, "--expect", 202,
                seconds=seconds)["per_second"]


def fastify_run(options):
    with tempfile.TemporaryDirectory() as name:
        redis = Redis(pathlib.Path(name)).start()
        try:
            front, port = peers.fastify_front(redis.socket_path)
            try:
                return post_rate(port, pathlib.Path(name), options.seconds)
            finally:
                front.kill()
                front.wait()
        finally:
            redis.kill()


def front_floor_run(options, how):
    with tempfile.TemporaryDirectory() as name:
        floor = Process("floor", [measure.TOOLS / "http_floor", how], name).start()
        try:
            return post_rate(int(floor.line().split()[1]), pathlib.Path(name), options.seconds)
        finally:
            floor.kill()


def bench_submit(bench):
    runs = {"memory": [], "fsync": []}
    floor = Row("bare libmicrohttpd, fixed answer (floor)", there=153000)
    fastify = Row("Fastify + ioredis, one LPUSH, memory", there=29400)
    for _ in range(bench.runs):
        for durability, rows in runs.items():
            rows.append(submit_run(bench, durability))
        bench.attempt(floor, lambda: front_floor_run(bench, "held"))
        bench.attempt(fastify, lambda: fastify_run(bench))
    pick = lambda durability, key: [run[key] for run in runs[durability]]  # noqa: E731
    memory = Figure("submit, 64 connections, `memory`", "/s", pick("memory", "per_second"), (">=", 45000), 0)
    bench.figures += [
        memory, Figure("submit, p99, `memory`", "ms", pick("memory", "p99_ms")),
        Figure("submit, 64 connections, `fsync`", "/s", pick("fsync", "per_second"), (">=", memory.median / 2, "half of `memory`"), 0),
        Figure("submit, p99, `fsync`", "ms", pick("fsync", "p99_ms"), ("<=", 10.0))]
    rows = [Row(f"Penstock, {name}", pick(name, "per_second"), {
        "p50 / p99 ms": f"{bench.middle(pick(name, 'p50_ms')):.2f} / {bench.middle(pick(name, 'p99_ms')):.2f}",
        "CPU µs a job, broker + Redis": f"{bench.middle(pick(name, 'broker_us')):.1f} + {bench.middle(pick(name, 'redis_us')):.1f}"},
        True) for name in runs]
    bench.tables.append(Table("Submit: POST of 1 KB on 64 connections", "requests/s", "more", [*rows, floor, fastify], plot="submit"))


# --- poll -----------------------------------------------------------------------------------------


def bench_poll(bench):
    runs = {"finished": [], "live": []}
    with big_stack() as stack:
        address, paths = address_of(stack.origin), {}
        for name, model in (("finished", "sim-model"), ("live", "sim-waiting")):
            api = stack.api()
            if name == "live":
                api.json("POST", "/v1/queues/sim-waiting/pause", expect=200)
            ids = bulk(stack, ((kilobyte_job(model) + "\n") * 2000).encode(), 2000)
            if name == "finished":
                for job in ids:
                    api.finish(job.decode())
            paths[name] = stack.folder / name
            paths[name].write_text("".join(f"/v1/jobs/{job.decode()}\n" for job in ids))
        for _ in range(bench.runs):
            for name, rows in runs.items():
                rows.append(load(address, 64, "--paths", paths[name], "--expect", 200, seconds=bench.seconds))
    for name, wanted in (("finished", 80000), ("live", 40000)):
        p99 = bench.middle([run["p99_ms"] for run in runs[name]])
        bench.figures.append(Figure(f"poll of {name} jobs, 64 connections", "/s", [run["per_second"] for run in runs[name]],
                                    (">=", wanted), 0, f"p99 {p99:.2f} ms"))


# --- throughput -----------------------------------------------------------------------------------


def read_results(stack, ids):
    """All results, a thousand a call."""
    found = 0
    for at in range(0, len(ids), 1000):
        body = json.dumps({"ids": [job.decode() for job in ids[at:at + 1000]], "results": True})
        status, _, data = http_call(stack.origin, "POST", "/v1/jobs/query", body, {"Content-Type": "application/json"})
        found += data.count(b'"result":{"id":"chatcmpl-')
        assert status == 200, data[:300]
    assert found == len(ids), (found, len(ids))


def throughput_run(durability, count):
    with big_stack(durability, sim_flags=("--reply-bytes", "1000")) as stack:
        lines, totals = ((kilobyte_job() + "\n") * count).encode(), Totals(stack, "sim-model")
        before = [cpu_seconds(process.pid) for process in (stack.worker, stack.redis, stack.broker)]
        begin = time.monotonic()
        ids = bulk(stack, lines, count)
        submitted = time.monotonic()
        eventually(lambda: totals.succeeded() >= count, 300, "all jobs end")
        ended = time.monotonic()
        after = [cpu_seconds(process.pid) for process in (stack.worker, stack.redis, stack.broker)]
        reading = time.monotonic()
        read_results(stack, ids)
        end = time.monotonic()
        paths = stack.folder / "paths"
        paths.write_text("".join(f"/v1/jobs/{job.decode()}/result\n" for job in ids))
        each = load(address_of(stack.origin), 64, "--paths", paths, "--expect", 200, requests=count)["seconds"]
        worker, redis, broker = ((new - old) * 1e6 / count for new, old in zip(after, before))
        taken = ended - begin + end - reading
        return {"rate": count / taken, "rate_each": count / (ended - begin + each), "drain": count / (ended - begin),
                "submit": count / (submitted - begin), "worker": worker, "redis": redis, "broker": broker}


def queue_peer_rate(measured, durability, count):
    """jobs/s of another queue on a Redis and a simulator of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sim, redis = Sim(folder, flags=("--reply-bytes", "1000")).start(), Redis(folder, durability).start()
        try:
            return measured(redis.socket_path, sim.origin, count)
        finally:
            sim.kill()
            redis.kill()


def call_floor(count):
    with tempfile.TemporaryDirectory() as name:
        sim = Sim(pathlib.Path(name), flags=("--reply-bytes", "1000")).start()
        try:
            return tool("floor", "--url", f"{sim.origin}/v1/chat/completions", "--calls", count, "--concurrency", 256, "--multis", 8,
                        "--body-bytes", 1000)
        finally:
            sim.kill()


def bench_throughput(bench):
    count, fewer, fewest = (5000, 2000, 200) if bench.quick else (20000, 10000, 1000)
    runs, floors = {"memory": [], "fsync": []}, []
    bull = {name: Row(f"BullMQ, {name}", there=there) for name, there in (("memory", 6960), ("fsync", 5370))}
    celery = {name: Row(f"Celery, prefork 4, {name}", there=there) for name, there in (("memory", 817), ("fsync", 0))}
    loops = {number: Row(f"Node loop over a Redis list, {number} process{'es' * (number > 1)}, memory: no lease, state or retry",
                         there=there) for number, there in ((1, 17200), (2, 21400))}
    for number in range(bench.runs):
        floors.append(call_floor(count))
        for name, rows in runs.items():
            rows.append(throughput_run(name, count))
            bench.attempt(bull[name], lambda name=name: queue_peer_rate(peers.bullmq, name, fewer))
            for processes, row in loops.items() if name == "memory" else ():
                bench.attempt(row, lambda processes=processes: queue_peer_rate(peers.node_loop(processes), name, count))
            if name == "memory" or number == 0:
                bench.attempt(celery[name], lambda name=name: queue_peer_rate(peers.celery, name, fewest))
    pick = lambda name, key: [run[key] for run in runs[name]]  # noqa: E731
    floor = bench.middle([run["cpu_us_per_call"] for run in floors])
    for name, wanted in (("memory", 18000), ("fsync", 12000)):
        bench.figures += [
            Figure(f"jobs end to end, `{name}`", "/s", pick(name, "rate"), (">=", wanted), 0,
                   f"results read 1,000 a call; with a call for each {bench.middle(pick(name, 'rate_each')):,.0f}/s; until the last "
                   f"has ended {bench.middle(pick(name, 'drain')):,.0f}/s; bulk submit alone "
                   f"{bench.middle(pick(name, 'submit')):,.0f}/s"),
            Figure(f"worker CPU a job, `{name}`", "µs", pick(name, "worker"), ("<=", floor + 20, f"floor {floor:.1f} + 20"), 1),
            Figure(f"Redis CPU a job without the reads, `{name}`", "µs", pick(name, "redis"), ("<=", 20.0), 1)]
    for name in runs:
        ours = Row(f"Penstock, {name}", pick(name, "rate"), {
            "CPU µs a job, broker + worker + Redis": " + ".join(f"{bench.middle(pick(name, key)):.1f}"
                                                                for key in ("broker", "worker", "redis"))}, True)
        bench.tables.append(Table(f"A job is one HTTP call: {name}", "jobs/s", "more",
                                  [ours, bull[name], celery[name], *(loops.values() if name == "memory" else ())],
                                  text=f"Submitted in bulk, run, results read over HTTP: Penstock {count:,} jobs. BullMQ "
                                       f"{fewer:,}, until the last is completed; Celery {fewest:,}; the loops {count:,}, results "
                                       "read by the hundred from Redis.", plot=f"throughput-{name}"))
    bench.figures.append(Figure("bare libcurl loop, CPU a call, 256 connections", "µs", [run["cpu_us_per_call"] for run in floors],
                                None, 1, "the floor of the worker"))


# --- latency --------------------------------------------------------------------------------------


def idle_path(bench, modes, beside=lambda count: None):
    """{mode: [runs]} on one idle stack whose upstream is the tool itself; "wakes": bare processes, beside it in turns, as is what
    beside(count) measures."""
    port, count, runs = free_port(), 200 if bench.quick else 1000, {mode: [] for mode in modes}
    with big_stack(start_worker=False) as stack:
        config = json.loads(stack.config_path().read_text())
        config["upstreams"] = [{"name": "bench", "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "models": ["bench"],
                                "concurrency": 64, "health": "/health"}]
        stack.config_path().write_text(json.dumps(config))
        stack.add_worker()
        for _ in range(bench.runs):
            for mode, rows in runs.items():
                rows.append(tool("wakes", count) if mode == "wakes" else
                            tool("pickup", "--mode", mode, "--broker", address_of(stack.origin), "--listen", f"127.0.0.1:{port}",
                                 "--count", count))
            beside(count)
    return runs


class PickupPeer:
    """A queue beside ours on its own Redis: medians of its runs into a row, the slowest hundredth beside them."""

    def __init__(self, name, measured, there):
        self.row, self.measured, self.p99 = Row(name, there=there), measured, []

    def run(self, bench, count):
        def once():
            with tempfile.TemporaryDirectory() as name:
                redis = Redis(pathlib.Path(name)).start()
                try:
                    times = self.measured(redis.socket_path, count)
                finally:
                    redis.kill()
            self.p99.append(times["p99_ms"])
            return times["p50_ms"]
        bench.attempt(self.row, once)
        if self.p99:
            self.row.details["p99 ms"] = f"{bench.middle(self.p99):.2f}"


def bench_latency(bench):
    rivals = [PickupPeer("BullMQ, add to handler", peers.bullmq_pickup, 1.03),
              PickupPeer("Celery, prefork 4, delay to task", peers.celery_pickup, 1.65)]

    def beside(count):
        for rival in rivals:
            rival.run(bench, count)
    runs = idle_path(bench, ("wakes", "pickup", "direct", "held"), beside)
    rows = [Row(name, [one["p50_ms"] for one in runs[mode]],
                {"p99 ms": f"{bench.middle([one['p99_ms'] for one in runs[mode]]):.2f}"}, mode == "pickup")
            for mode, name in (("pickup", "Penstock, submit over HTTP to the upstream's first byte"),
                               ("wakes", "four wake-ups of bare processes (floor)"))]
    bench.tables.append(Table("Pickup on an idle queue", "ms", "less", [rows[0], *(rival.row for rival in rivals), rows[1]], 2,
                              "One job at a time, 5 ms after the one before. The peers' time ends in their handler, before it has called "
                              "anybody; ours goes on to the upstream.", "pickup"))
    bench.figures += [Figure(f"four wake-ups of bare processes, {key[:3]}", "ms", [one[key] for one in runs["wakes"]], None, 2,
                             "the floor of pickup" if key == "p50_ms" else "") for key in ("p50_ms", "p99_ms")]
    for mode, name, p50, p99 in (("pickup", "pickup, submit to the upstream's first byte", 0.4, 1.5),
                                 ("held", "held-open call, added", 0.7, 2.0)):
        base = runs["direct"] if mode == "held" else [{"p50_ms": 0.0, "p99_ms": 0.0}] * bench.runs
        for key, limit in (("p50_ms", p50), ("p99_ms", p99)):
            bench.figures.append(Figure(f"{name}, {key[:3]}", "ms", [one[key] - direct[key] for one, direct in zip(runs[mode], base)],
                                        ("<=", limit)))


# --- memory ---------------------------------------------------------------------------------------

ROLES = ("broker child", "worker child", "broker parent", "worker supervisor")


def role_pids(stack):
    return dict(zip(ROLES, (stack.broker.children()[0], stack.worker.children()[0], stack.broker.pid, stack.worker.pid)))


def bench_idle(bench):
    runs = {role: [] for role in ROLES}
    for _ in range(bench.runs):
        with big_stack() as stack:
            api = stack.api()
            for _ in range(50):
                api.finish(api.submit()["id"])
            for role, pid in role_pids(stack).items():
                runs[role].append((memory_mib(pid, "RssAnon"), memory_mib(pid, "VmRSS")))
    for role, limit, limit_rss in (("broker child", 4, 16), ("worker child", 4, 16), ("broker parent", 1, 10),
                                   ("worker supervisor", 1, 10)):
        bench.figures += [Figure(f"idle memory, {role}, RssAnon", "MiB", [run[0] for run in runs[role]], ("<=", limit)),
                          Figure(f"idle memory, {role}, RSS", "MiB", [run[1] for run in runs[role]], ("<=", limit_rss), 1)]


def used_memory(stack):
    return int(stack.redis.cli("INFO", "memory").split("used_memory:")[1].split()[0])


def bench_queued(bench):
    """Memory of Redis for each waiting job, beside its body. Bodies of many sizes: allocators round in steps."""
    count, runs = 5000 if bench.quick else 50000, []
    bodies = [chat("x" * (400 + number * 797 % 1000)) for number in range(count)]
    text = "".join(json.dumps({"endpoint": "/v1/chat/completions", "body": body}) + "\n" for body in bodies).encode()
    size = sum(len(json.dumps(body)) for body in bodies) / count
    for _ in range(bench.runs):
        with big_stack(start_worker=False) as stack:
            bulk(stack, (kilobyte_job() + "\n").encode(), 1)
            before = used_memory(stack)
            bulk(stack, text, count)
            runs.append((used_memory(stack) - before) / count - size)
    bench.figures.append(Figure("Redis memory of a queued job above its body", "bytes", runs, ("<=", 400), 0,
                                f"{count:,} waiting jobs, bodies of 470 to 1,470 bytes, {size:,.0f} on average"))


FORGET = """local cursor, gone = '0', 0
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', '{*}:j:*', 'COUNT', 10000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do redis.call('UNLINK', key) gone = gone + 1 end
until cursor == '0'
return gone"""


def bench_million(bench):
    """Memory before and after a million small jobs; their records leave Redis in between, as time would do."""
    warm, total, part = (20000, 40000, 10000) if bench.quick else (100_000, 1_000_000, 25000)
    line = json.dumps({"endpoint": "/v1/chat/completions", "expires_in_ms": 120000, "body": chat("tiny")}) + "\n"
    with big_stack() as stack:
        totals, done, before, begin = Totals(stack, "sim-model"), 0, {}, time.monotonic()
        for _ in range(0, warm + total, part):
            bulk(stack, (line * part).encode(), part)
            done += part
            eventually(lambda done=done: totals.succeeded() >= done, 300, "all jobs end")
            stack.redis.cli("EVAL", FORGET, 0)
            if done == warm:  # pools and caches are full now; from here on nothing may grow
                before = {role: memory_mib(pid, "RssAnon") for role, pid in role_pids(stack).items()}
                store = used_memory(stack)
        after = {role: memory_mib(pid, "RssAnon") for role, pid in role_pids(stack).items()}
        lists = sum(int(stack.redis.cli("MEMORY", "USAGE", key) or 0) for key in stack.redis.cli("KEYS", "{*}:[iy]:*").splitlines())
        kept = used_memory(stack) - store
    for role in ROLES:
        bench.figures.append(Figure(f"RssAnon after {total:,} jobs minus before, {role}", "MiB", [after[role] - before[role]],
                                    ("<=", 1.0, "flat"), 2, f"{before[role]:.2f} → {after[role]:.2f} MiB, after {warm:,} to warm up"))
    bench.figures.append(Figure(f"Redis after {total:,} jobs minus before, a job", "bytes", [kept / total], None, 1,
                                f"of {kept / 1048576:.0f} MiB the lists of ids, kept for a day and more, are {lists / 1048576:.0f}; "
                                f"{done / (time.monotonic() - begin):,.0f} jobs/s all the while"))


BENCHES = {"submit": bench_submit, "poll": bench_poll, "throughput": bench_throughput, "latency": bench_latency, "idle": bench_idle,
           "queued": bench_queued, "million": bench_million}
