"""Operating it: readiness with a reason, metrics, restarts that drop nothing, exit codes, printed configuration."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from tests.harness.stack import BIN, SLOW, Stack, chat, clean_environment, eventually, http_call

PROGRAMS = ["penstock-broker", "penstock-worker"]


def run(program, *args, env=None):
    return subprocess.run([str(BIN / program), *map(str, args)], capture_output=True, text=True, timeout=30 * SLOW,
                          check=False, env={**clean_environment(), **(env or {})})


def reason(origin):
    status, _, data = http_call(origin, "GET", "/readyz")
    return status, data.decode()


def test_held_requests_do_not_count_as_slow():
    with Stack() as stack:
        api = stack.api()
        job = api.submit(chat(user="sim:delay_ms=60000"))
        before = stack.metrics()
        assert api.job(job["id"], wait="3s")["finished_at"] is None
        status, _, _ = api.request("POST", "/v1/chat/completions", chat("held", user="sim:delay_ms=3000"))
        assert status == 200

        def told():
            now = stack.metrics()
            return now if now["penstock_http_requests_total"] >= before["penstock_http_requests_total"] + 2 else None
        now = eventually(told, 10, "metrics tell of both requests")
        spent = now["penstock_http_request_seconds_sum"] - before["penstock_http_request_seconds_sum"]
        assert spent < 1 * SLOW, spent
        api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)


def test_stopping_answers_held_requests_and_closes():
    with Stack(config={"worker": {"drain_timeout_ms": 300}}) as stack:
        job, ends_soon = (stack.api().submit(chat(user=f"sim:delay_ms={ms}"))["id"] for ms in (60000, 2000))
        answers = {}

        def poll(job_id):
            api = stack.api()
            answers[job_id] = api.request("GET", f"/v1/jobs/{job_id}?wait=60s")

        idle = stack.api()
        idle.job(job)
        threads = [threading.Thread(target=poll, args=[job_id]) for job_id in (job, ends_soon)]
        for thread in threads:
            thread.start()
        eventually(lambda: stack.metrics()["penstock_http_held"] >= 2, 10, "both are held")
        started = time.monotonic()
        stack.broker.signal(signal.SIGTERM)
        assert stack.broker.popen.wait(10 * SLOW) == 0
        assert time.monotonic() - started < 10 * SLOW
        for thread in threads:
            thread.join(5)
        assert answers[ends_soon][0] == 200 and json.loads(answers[ends_soon][2])["status"] == "succeeded"
        assert answers[job][0] == 503 and answers[job][1]["retry-after"] == "1"
        assert all(headers["connection"].lower() == "close" for _, headers, _ in answers.values())


def test_a_broker_child_that_stands_still_is_replaced():
    with Stack(brokers=2, start_worker=False) as stack:
        before = stack.broker.children()
        os.kill(before[0], signal.SIGSTOP)

        def others():
            now = stack.broker.children()
            return len(now) == 2 and before[0] not in now and now
        assert before[1] in eventually(others, 20, "the child is replaced")
        assert "child_stuck" in stack.broker.log()
        stack.wait_ready()


def test_health_and_readiness_without_redis():
    with Stack(durability="fsync") as stack:
        assert http_call(stack.origin, "GET", "/healthz")[0] == 200
        stack.redis.kill()
        eventually(lambda: reason(stack.origin)[0] == 503, 15, "not ready")
        assert "redis" in reason(stack.origin)[1]
        assert http_call(stack.origin, "GET", "/healthz")[0] == 200
        status, headers, data = http_call(stack.origin, "POST", "/v1/jobs",
                                          {"endpoint": "/v1/chat/completions", "body": chat()})
        assert status == 503 and 1 <= int(headers["retry-after"]) <= 60, data
        stack.redis.start()
        stack.wait_ready()
        api = stack.api()
        assert api.finish(api.submit()["id"])["status"] == "succeeded"
        assert stack.worker.is_alive() and stack.broker.is_alive()


def test_jobs_survive_an_outage_of_redis():
    with Stack(durability="fsync") as stack:
        api = stack.api()
        api.json("POST", "/v1/queues/sim-model/pause", expect=200)
        jobs = [api.submit(chat(user="sim:delay_ms=1500"))["id"] for _ in range(20)]
        api.json("POST", "/v1/queues/sim-model/resume", expect=200)
        eventually(lambda: stack.sim.stats()["in_flight"] == 20, 10, "all run")
        stack.redis.kill()
        eventually(lambda: stack.sim.stats()["in_flight"] == 0, 10, "upstream answered meanwhile")
        stack.redis.start()
        stack.wait_ready()
        for job in jobs:
            assert api.finish(job)["status"] == "succeeded"
        assert stack.sim.stats()["requests"] <= 20 + 5  # held results are committed, not computed again


@pytest.mark.parametrize("flags,code", [(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "redis_may_evict"),
                                        (["--appendonly", "no"], "redis_not_durable")])
def test_unfit_redis_is_not_ready_with_the_reason(flags, code):
    stack = Stack(durability="fsync", redis_flags=flags, start_worker=False)
    stack.wait_ready = lambda: None
    with stack:
        eventually(lambda: code in reason(stack.origin)[1], 10, code)
        assert reason(stack.origin)[0] == 503
        assert stack.broker.is_alive()
        assert http_call(stack.origin, "POST", "/v1/jobs",
                         {"endpoint": "/v1/chat/completions", "body": chat()})[0] == 503


def test_full_redis_refuses_and_drains():
    with Stack() as stack:
        api = stack.api()
        api.json("POST", "/v1/queues/sim-model/pause", expect=200)
        used = int([line for line in stack.redis.cli("INFO", "memory").splitlines()
                    if line.startswith("used_memory:")][0].split(":")[1])
        stack.redis.cli("CONFIG", "SET", "maxmemory", used + 8_000_000)
        accepted, refused = [], None
        for _ in range(400):
            status, headers, data = api.request("POST", "/v1/jobs",
                                                {"endpoint": "/v1/chat/completions", "body": chat("x" * 50_000)})
            if status != 202:
                refused = status, headers, json.loads(data)
                break
            accepted.append(json.loads(data)["id"])
        assert refused and refused[0] == 503 and "retry-after" in refused[1], refused
        assert api.job(accepted[0])["status"] == "queued"
        api.json("POST", "/v1/queues/sim-model/resume", expect=200)
        for job in accepted:
            assert api.finish(job)["status"] == "succeeded"


def test_metrics_show_the_fleet():
    with Stack(brokers=2, children=2) as stack:
        api = stack.api()
        for _ in range(10):
            api.finish(api.submit()["id"])
        names = [f"penstock_{name}_total" for name in ("jobs_succeeded", "jobs_submitted", "upstream_calls")]

        def counted():  # each process tells the others once a second
            metrics = stack.metrics()
            return all(metrics.get(name, 0) >= 10 for name in names) and metrics
        metrics = eventually(counted, 10, "all of it is counted")
        assert http_call(stack.origin, "GET", "/metrics")[0] == 404


def test_restarting_one_broker_drops_no_connection():
    """Children of the broker end one after the other, gracefully, under load: no client sees an error."""
    with Stack(brokers=2) as stack:
        errors, stop = [], threading.Event()

        def load():
            while not stop.is_set():
                try:
                    status, _, _ = http_call(stack.origin, "GET", "/healthz")
                    if status != 200:
                        errors.append(status)
                except OSError as error:
                    errors.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            old = stack.broker.children()
            os.kill(old[0], signal.SIGTERM)
            eventually(lambda: old[0] not in stack.broker.children() and len(stack.broker.children()) == 2, 20,
                       "a new child is there")
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors, errors[:5]


def test_held_call_is_answered_during_graceful_stop():
    with Stack() as stack:
        answer = {}

        def call():
            answer["it"] = http_call(stack.origin, "POST", "/v1/chat/completions", chat(user="sim:delay_ms=800"))

        thread = threading.Thread(target=call)
        thread.start()
        eventually(lambda: stack.sim.stats()["in_flight"] == 1, 10, "the call runs")
        assert stack.broker.stop() == 0
        thread.join(30)
        assert answer["it"][0] == 200, answer


@pytest.mark.parametrize("program", PROGRAMS)
def test_configuration_is_checked_and_printed(program, tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text("listen: 127.0.0.1:0\nredis: {url: 'unix:///nowhere/r.sock', durability: memory}\n"
                    "auth: {mode: none}\n")
    assert run(program, "--config", good, "--check-config").returncode == 0
    printed = run(program, "--config", good, "--print-config", env={"PENSTOCK_REDIS_SHARDS": "8"})
    assert printed.returncode == 0 and "shards: 8" in printed.stdout
    again = tmp_path / "again.yaml"
    again.write_text(printed.stdout)
    assert run(program, "--config", again, "--print-config").stdout == printed.stdout
    for text, word in [("surprise: 1\n", "surprise"), ("redis: {shards: 0}\n", "shards"),
                       ("redis: {shards: many}\n", "shards"), ("auth: {mode: none}\nlisten: 0.0.0.0:1\n", "auth.mode"),
                       ("upstreams: [{name: a}]\n", "base_url")]:
        bad = tmp_path / "bad.yaml"
        bad.write_text(text)
        done = run(program, "--config", bad, "--check-config")
        assert done.returncode == 2 and word in done.stderr, (text, done)
    assert run(program, "--config", tmp_path / "missing.yaml", "--check-config").returncode == 2
    assert run(program, "--config", bad).returncode == 2
    assert run(program, "--version").stdout.strip()
    assert "--config" in run(program, "--help").stdout


def test_no_process_is_left_behind():
    with Stack(brokers=2, children=2) as stack:
        pids = [*stack.broker.children(), *stack.worker.children()]
        assert len(pids) == 4
        stack.broker.kill()
        stack.worker.kill()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 8, "orphans are gone")


def test_idle_slow_and_half_closed_clients_do_not_hurt(stack):
    import socket
    import urllib.parse
    parts = urllib.parse.urlsplit(stack.origin)
    sockets = []
    for start in (b"", b"GET /v1/jobs", b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{") * 60:
        sock = socket.create_connection((parts.hostname, parts.port))
        sock.sendall(start)
        sock.shutdown(socket.SHUT_WR)
        sockets.append(sock)
    api = stack.api()
    assert api.finish(api.submit()["id"])["status"] == "succeeded"
    for sock in sockets:
        sock.settimeout(45 * SLOW)
        while sock.recv(4096):
            pass
        sock.close()


def test_emptied_redis_is_noticed():
    """A store that lost its identity is not taken for the one that promised to keep the jobs."""
    with Stack() as stack:
        stack.redis.cli("FLUSHALL")
        stack.redis.kill()
        stack.redis.start()
        eventually(lambda: "store_identity" in reason(stack.origin)[1], 15, "the change is noticed")
        status, _, _ = http_call(stack.origin, "POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "body": chat()})
        assert status == 503
