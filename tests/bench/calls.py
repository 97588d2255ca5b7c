"""Benchmarks of many calls at once: the fan-out of one worker, and the script that Penstock replaces."""

import json
import subprocess
import time

from tests.bench import peers
from tests.bench.figures import Figure, Row, Table
from tests.bench.measure import Totals, big_stack, cpu_seconds, forget_peak, kilobyte_job, memory_mib, stack_pids, tool, wait_and_peak
from tests.bench.queues import bulk
from tests.harness.stack import BIN, chat, clean_environment, embedding, http_call

SLOW = {"httpx": 10000, "curl --parallel": 10000}  # from this size on once: it takes a minute a go


def fan_out_run(number, count):
    """count calls of 3 s at once: first claim to last commit, and what the worker needs for it."""
    addresses = (f"127.0.0.{10 + 2 * number}:0", f"127.0.0.{11 + 2 * number}:0")
    with big_stack(sim_flags=("--delay-ms", "3000"), concurrency=count, listen=addresses,
                   config={"worker": {"inflight_max": count}}) as stack:
        floor = tool("floor", "--url", f"{stack.sim.origins[1]}/v1/chat/completions", "--calls", count, "--concurrency", count,
                     "--multis", 32, "--body-bytes", 1000)
        api = stack.api()
        api.finish(api.submit(timeout_ms=600000)["id"])
        child, busy = stack.worker.children()[0], 0.0
        idle, before = memory_mib(child, "VmRSS"), cpu_seconds(stack.worker.pid)
        ids = [job.decode() for job in bulk(stack, ((kilobyte_job() + "\n") * count).encode(), count)]
        totals, limit = Totals(stack, "sim-model"), time.monotonic() + 60
        while totals.succeeded() < count + 1 and time.monotonic() < limit:
            busy = max(busy, memory_mib(child, "VmRSS"))
            time.sleep(0.05)
        cpu, jobs = cpu_seconds(stack.worker.pid) - before, []
        for at in range(0, count, 1000):
            jobs += api.json("POST", "/v1/jobs/query", {"ids": ids[at:at + 1000]}, expect=200)["data"]
        failures = count - sum(job["status"] == "succeeded" and job["attempt"] == 0 for job in jobs)
        wall = max(job["finished_at"] or time.time() for job in jobs) - min(job["started_at"] for job in jobs)
        return {"wall": wall, "floor": floor["wall_s"], "cpu": cpu, "kib": (busy - idle) * 1024 / count, "failures": failures,
                "floor_cpu": floor["cpu_s"], "floor_kib": floor["rss_max_kib"] / count,
                "in_flight": stack.sim.stats()["in_flight_max"]}


def bench_fanout(bench):
    count = 1000 if bench.quick else 10000
    runs = [fan_out_run(number, count) for number in range(bench.runs)]
    pick = lambda key: [run[key] for run in runs]  # noqa: E731
    floor = bench.middle(pick("floor"))
    bench.figures += [
        Figure(f"{count:,} calls of 3 s, first claim to last commit", "s", pick("wall"),
               ("<=", floor + 0.3, f"bare libcurl loop {floor:.2f} + 0.3")),
        Figure("their failures", "calls", pick("failures"), ("<=", 0), 0),
        Figure("worker memory a call in flight", "KiB", pick("kib"), ("<=", 24), 1)]
    bench.tables.append(Table(f"{count:,} calls of 3 s at once, one process", "seconds", "less", [
        Row("Penstock's worker, from Redis and back", pick("wall"), {"CPU s": f"{bench.middle(pick('cpu')):.2f}",
            "KiB a call": f"{bench.middle(pick('kib')):.1f}"}, True),
        Row("bare libcurl loop, 32 multi handles (floor)", pick("floor"), {"CPU s": f"{bench.middle(pick('floor_cpu')):.2f}",
            "KiB a call": f"{bench.middle(pick('floor_kib')):.1f}"})], 2, plot="fanout"))


def bulk_run(stack, path, bodies):
    """`penstock bulk`: wall, and processor time and peak memory of everything of ours."""
    lines, out = stack.folder / "lines.jsonl", stack.folder / "out.jsonl"
    lines.write_text("".join(json.dumps({"endpoint": path, "body": body}) + "\n" for body in bodies))
    pids = stack_pids(stack)
    for pid in pids:
        forget_peak(pid)
    owners = (stack.broker.pid, stack.worker.pid, stack.redis.pid)
    before, begin = sum(map(cpu_seconds, owners)), time.monotonic()
    process = subprocess.Popen([str(BIN / "penstock"), "bulk", str(lines), "-o", str(out), "--quiet"], cwd=stack.folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**clean_environment(), "PENSTOCK_URL": stack.origin})
    usage, own_peak = wait_and_peak(process)
    wall = time.monotonic() - begin
    cpu = sum(map(cpu_seconds, owners)) - before + usage.ru_utime + usage.ru_stime
    peak = sum(memory_mib(pid, "VmHWM") for pid in pids) + own_peak
    rows = sum('"error":null' in line.replace(" ", "") or '"status":"succeeded"' in line.replace(" ", "")
               for line in out.read_text().splitlines()) if out.exists() else 0
    errors = 0 if process.returncode == 0 else max(1, len(bodies) - rows)
    return {"wall_s": wall, "cpu_s": cpu, "rss_mib": peak, "errors": errors}


def contestants(kind, count, path, bodies):
    """{name: function(stack, origin) → figures}"""
    return {
        "penstock bulk": lambda stack, _: bulk_run(stack, path, bodies),
        "asyncio + aiohttp, limits raised": lambda _, origin: peers.python_fanout("aiohttp", origin, count, kind),
        "asyncio + httpx, limits raised": lambda _, origin: peers.python_fanout("httpx", origin, count, kind),
        "Node, undici": lambda _, origin: peers.node_fanout("undici", origin, count, kind),
        "Node, official OpenAI SDK": lambda _, origin: peers.node_fanout("openai", origin, count, kind),
        "curl --parallel": lambda stack, origin: peers.curl_parallel(origin, count, kind, stack.folder),
    }


def is_slow(name, count):
    return any(word in name and count >= size for word, size in SLOW.items())


def script_run(bench, number, count, kind, rows, gathered):
    path = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}[kind]
    bodies = [chat(f"prompt {i}") if kind == "chat" else embedding(f"document {i}") for i in range(count)]
    all_of_them = contestants(kind, count, path, bodies)
    listen = tuple(f"127.0.{1 + number}.{10 + index}:0" for index in range(len(all_of_them)))
    with big_stack(sim_flags=("--delay-ms", "3000"), concurrency=max(count, 256), listen=listen) as stack:
        for index, (name, measure) in enumerate(all_of_them.items()):
            if number > 0 and is_slow(name, count):
                continue

            def once(name=name, measure=measure, index=index):
                figures = measure(stack, stack.sim.origins[index])
                gathered.setdefault(name, []).append(figures)
                return figures["wall_s"]
            bench.attempt(rows[name], once)
        if number == 0:
            begin = time.monotonic()
            status, *_ = http_call(stack.sim.origins[0], "POST", path, bodies[0])
            assert status == 200
            rows["one after the other"].runs.append((time.monotonic() - begin) * count)


def bench_script(bench):
    sizes = [("15 prompts", 15, "chat"), ("100 documents", 100, "embeddings")]
    if not bench.quick:
        sizes += [("1,000 prompts", 1000, "chat"), ("10,000 prompts", 10000, "chat")]
    for title, count, kind in sizes:
        rows = {name: Row(name, is_ours=name == "penstock bulk") for name in [*contestants(kind, count, "", []),
                                                                              "one after the other"]}
        gathered = {}
        for number in range(bench.runs):
            script_run(bench, number, count, kind, rows, gathered)
        for name, runs in gathered.items():
            rows[name].details = {"CPU s": f"{bench.middle([run['cpu_s'] for run in runs]):.2f}",
                                  "peak MiB": f"{bench.middle([run['rss_mib'] for run in runs]):,.0f}",
                                  "errors": f"{max(run['errors'] for run in runs):,}"}
        rows["one after the other"].details = {"CPU s": "", "peak MiB": "", "errors": "computed from one call"}
        bench.tables.append(Table(f"{title}, 3 s each", "seconds", "less", list(rows.values()), 2, plot=""))
        if count >= 1000:
            bench.tables[-1].plot = f"script-{count}"


BENCHES = {"fanout": bench_fanout, "script": bench_script}
