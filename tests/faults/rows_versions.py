"""Rows H: versions side by side. `make schemas` builds this tree as the two versions after it would be: each writes records of a
schema of its own, and its functions have names of their own."""

import contextlib
import json
import os
import signal

from tests.faults.matrix import not_here, row
from tests.harness.ledger import Ledger
from tests.harness.stack import BIN, Api, Process, chat, eventually, http_call

not_here("F89", "a webhook's receiver is down, slow, or sends us elsewhere", "there are no webhooks yet")
not_here("F91", "a day at half load with a fault every few minutes", "a run of its own: tests/faults/soak.py")

SCHEMAS = (1, 2, 3)
COUNT = "local n = {} local c = '0' repeat local page = redis.call('SCAN', c, 'MATCH', '{*}:j:*', 'COUNT', 1000) c = page[1] " \
        "for _, key in ipairs(page[2]) do local s = string.byte(redis.call('GETRANGE', key, 1, 1)) n[s] = (n[s] or 0) + 1 end " \
        "until c == '0' return {n[1] or 0, n[2] or 0, n[3] or 0}"


def bin_dir(schema):
    return BIN if schema == 1 else BIN.parent / f"schema-{schema}" / "bin"


def why_not():
    missing = [str(schema) for schema in SCHEMAS if not (bin_dir(schema) / "penstock-broker").exists()]
    return f"the builds of schema {' and '.join(missing)} are missing (make schemas)" if missing else None


def records(run):
    """How many records of each schema the store holds."""
    return [int(line) for line in run.stack.redis.cli("EVAL", COUNT, "0").split()]


def libraries(run):
    """How many libraries of ours the store holds."""
    names = run.stack.redis.cli("FUNCTION", "LIST").split()
    return sum(name.startswith("penstock_") for name in names)


def commands(run):
    """Calls of functions so far."""
    lines = run.stack.redis.cli("INFO", "commandstats").split()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith("cmdstat_fcall"))


def raise_schema(run, schema):
    run.stack.redis.cli("HSET", "{0}:cfg", "schema", schema)


def writes(run, origin, schema):
    """Whether new jobs of this broker, of each of its processes, are written in this schema."""
    for _ in range(8):
        api = Api(origin)
        job = api.submit(chat(model="sim-probe"))["id"]
        api.close()
        key = run.stack.redis.cli("--raw", "KEYS", f"{{*}}:j:{job.removeprefix('job_')}")
        if run.stack.redis.cli("EVAL", f"return string.byte(redis.call('GETRANGE', '{key}', 1, 1))", "0") != str(schema):
            return False
    return True


@contextlib.contextmanager
def broker_of(run, schema):
    """A further broker of that version; gives its origin."""
    path = run.stack.folder / f"broker-{schema}.yaml"
    path.write_text(json.dumps({**run.stack.config, "listen": "127.0.0.1:0", "listen_metrics": "127.0.0.1:0"}))
    broker = Process(f"broker-{schema}", [bin_dir(schema) / "penstock-broker", "--config", path], run.stack.folder,
                     ready_fd=True).start()
    try:
        origin = f"http://127.0.0.1:{broker.line().split()[1]}"
        eventually(lambda: http_call(origin, "GET", "/readyz")[0] == 200, 20, f"the broker of schema {schema} is ready")
        yield origin
    finally:
        assert broker.stop() == 0


def too_new(run):
    return run.stack.metrics().get("penstock_schema_too_new_total", 0)


@row("F84", "three versions side by side: first all write the oldest schema, then each its own", load=False, needs=why_not,
     children=1)
def side_by_side(run):
    stack = run.stack
    workers = [stack.worker, *(stack.add_worker(bin_dir=bin_dir(schema)) for schema in SCHEMAS[1:])]
    with broker_of(run, 2) as second, broker_of(run, 3) as third:
        first = stack.origin
        assert libraries(run) == 3
        for seed, is_raised in ((84, False), (85, True)):
            if is_raised:
                raise_schema(run, 3)
                eventually(lambda: writes(run, third, 3) and writes(run, second, 2), 15, "each version writes its own")
            run.ledger = Ledger(third, 1000, delay_ms=30, seed=seed, rate=200, others=(first, second)).start()
            run.wait_share(0.4)
            for worker in workers:
                os.kill(worker.children()[0], signal.SIGKILL)
            run.ledger.join()
            assert not run.ledger.drain(60)
            counts, wrong = run.ledger.verdict(stack.sim.nonces())
            assert not any(counts[name] for name in ("lost", "stuck", "double", "phantom", "backwards", "wrong")), wrong
            assert counts["accepted"] == 1000, counts
            if not is_raised:
                assert records(run)[1:] == [0, 0] and too_new(run) == 0
        assert min(records(run)) >= 200, records(run)
        assert eventually(lambda: too_new(run), 5, "the oldest says what it left alone") > 0
        assert "schema_too_new" in stack.worker.log(1 << 20)
        assert "penstock_jobs_failed_total" not in stack.metrics() or stack.metrics()["penstock_jobs_failed_total"] == 0
        # One job that the oldest cannot read: told so, not harmed, and not cancelled.
        job = Api(third).submit(chat(user="sim:delay_ms=3000"))["id"]
        for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/result")):
            status, _, data = http_call(first, method, f"/v1/jobs/{job}{path}")
            assert status == 503 and b"newer version" in data, (method, path, status, data)
        assert Api(third).finish(job)["status"] == "succeeded"
        done = stack.cli("doctor", check=False)
        assert "without" not in done.stdout, done.stdout
    run.ledger = None


@row("F85", "a new version is deployed under load and taken back; then taken back once its own schema is written", needs=why_not,
     jobs=2400)
def there_and_back(run):
    stack = run.stack

    def deploy(schema):
        """The other version's workers, then its brokers, at the same address."""
        old = stack.workers.pop()
        stack.add_worker(bin_dir=bin_dir(schema))
        assert old.stop() == 0
        assert stack.broker.stop() == 0
        stack.start_broker(bin_dir(schema))
        stack.wait_ready()

    for schema in (2, 1):
        before = stack.sim.stats()["requests"]
        deploy(schema)
        run.hold(2)
        assert stack.sim.stats()["requests"] - before > 100, "that version did nothing"
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(60)
    assert records(run)[1:] == [0, 0] and too_new(run) == 0, "what the new version wrote can be read by the old one"
    # The second time the new schema is in use already: the old version leaves those jobs as they are until the new one is back.
    deploy(2)
    raise_schema(run, 2)
    eventually(lambda: writes(run, stack.origin, 2), 15, "the new schema is written")
    api = stack.api()
    api.json("POST", "/v1/queues/sim-late/pause", expect=200)
    jobs = [api.submit(chat(model="sim-late"))["id"] for _ in range(50)]
    deploy(1)
    api = stack.api()
    api.json("POST", "/v1/queues/sim-late/resume", expect=200)
    eventually(lambda: too_new(run) >= 50, 20, "the old version met them")
    assert records(run)[1] >= 50
    asked = commands(run)
    run.hold(2)
    assert commands(run) - asked < 600, "the old version asks for what it cannot do again and again"
    assert api.finish(api.submit(chat(model="sim-probe"))["id"])["status"] == "succeeded", "what the old version can do goes on"
    deploy(2)
    api = stack.api()
    assert {api.finish(job)["status"] for job in jobs} == {"succeeded"}
