"""Rows B: Redis and its disk."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from tests.faults.matrix import not_here, prove, row, victims
from tests.harness.stack import chat, eventually, http_call

for number in range(37, 44):
    not_here(f"F{number}", "replication and failover", "there is no Sentinel support yet")
not_here("F45", "replication and failover", "there is no Sentinel support yet")


PROBE = {"endpoint": "/v1/chat/completions", "body": chat(model="sim-probe")}  # not the load's model


def stat(text, name):
    return next(line.split(":")[1] for line in text.splitlines() if line.startswith(name + ":"))


def ready(run):
    return http_call(run.stack.origin, "GET", "/readyz")[0] == 200


def submit_status(run):
    return http_call(run.stack.origin, "POST", "/v1/jobs", PROBE)[0]


def heal(run):
    """Redis is started again, as a service manager would."""
    run.stack.redis.kill()
    run.stack.redis.start()
    run.healed()
    run.stack.wait_ready(30)


def job_state(api, job):
    """Its state, or the status that says there is none; nothing while the broker that is asked cannot tell."""
    status, _, data = api.request("GET", f"/v1/jobs/{job}")
    return json.loads(data)["status"] if status == 200 else status if status != 503 else None


@row("F17", "Redis is killed and restarted, five times: each time submits are taken again within 10 s", smoke=True)
def redis_killed(run):
    slowest = 0.0
    for _ in range(5):
        killed = time.monotonic()
        heal(run)
        eventually(lambda: submit_status(run) == 202, 30, "a submit is taken")
        slowest = max(slowest, time.monotonic() - killed)
        run.hold(0.5)
    run.recovered_s = slowest
    assert slowest <= 10, f"service came back after {slowest:.1f} s"


@row("F18", "each sync takes 1.5 s, then Redis is killed", shim="redis", jobs=3000)
def slow_disk(run):
    run.steer(sync_ms=1500)
    run.hold(4)
    run.stack.redis.kill()
    run.steer()
    heal(run)
    prove(max(run.ledger.accept_seconds) >= 1.4, "no submit waited for a slow sync")


@row("F19", "the power fails: what was not synced is gone", shim="redis", jobs=3000)
def power_loss(run):
    cut = 0
    for _ in range(3):
        run.steer(sync_ms=300)
        run.hold(1.5)
        run.stack.redis.kill()
        run.steer()
        path, size = pathlib.Path(run.steer.path + ".synced").read_text().split()
        assert "appendonlydir" in path
        kept = min(int(size), os.path.getsize(path))
        cut += os.path.getsize(path) - kept
        os.truncate(path, kept)
        heal(run)
        run.hold(1)
    prove(cut > 0, "everything had been synced each time")


@row("F19b", "Redis is killed in the middle of a write, and once more: what never happened does not happen later", load=False)
def torn_transaction(run):
    api, redis = run.stack.api(), run.stack.redis
    job = {"endpoint": "/v1/chat/completions", "body": chat(model="sim-model")}

    def submit():
        status, _, data = api.request("POST", "/v1/jobs", job, {"Idempotency-Key": "torn"})
        return status in (200, 202) and json.loads(data)["id"]
    api.json("POST", "/v1/queues/sim-model/pause", expect=200)
    never = submit()
    redis.kill()
    log = next((redis.data_dir / "appendonlydir").glob("*.incr.aof"))
    text = log.read_bytes()
    begin = text.rindex(b"MULTI", 0, text.index(never[4:].encode()))
    end = text.index(b"EXEC", begin)
    log.write_bytes(text[:(begin + end) // 2])
    redis.start()
    run.stack.wait_ready(30)
    again = eventually(submit, 20, "it is submitted again")
    prove(again != never, "the first submit was still there")
    heal(run)
    # Each broker child finds its own way back.
    eventually(lambda: api.request("POST", "/v1/queues/sim-model/resume")[0] == 200, 20, "it goes on")
    eventually(lambda: job_state(api, again) == "succeeded", 20, "it runs")
    assert eventually(lambda: job_state(api, never), 20, "the other can be asked for") == 404


@row("F20", "Redis is paused for 8 s", smoke=True)
def redis_paused(run):
    run.stack.redis.signal(signal.SIGSTOP)
    eventually(lambda: not ready(run), 10, "the pause is noticed")
    begin = time.monotonic()
    assert submit_status(run) == 503
    # A broker process that has not noticed yet waits for the limit of its own command, 5 s.
    assert time.monotonic() - begin < 7
    run.hold(5)
    run.stack.redis.signal(signal.SIGCONT)
    run.healed()
    run.stack.wait_ready(30)


@row("F21", "Redis restarts with 100,000 waiting jobs: what waits does not run because of it", jobs=1200)
def restart_with_backlog(run):
    api = run.stack.api()
    api.json("POST", "/v1/queues/sim-backlog/pause", expect=200)
    job = {"endpoint": "/v1/chat/completions", "body": chat("x" * 300, model="sim-backlog")}
    ids = []
    for _ in range(10):
        status, _, data = api.request("POST", "/v1/jobs/bulk", (json.dumps(job) + "\n") * 10000,
                                      {"Content-Type": "application/x-ndjson"}, 300)
        assert status == 200
        ids += [json.loads(line)["id"] for line in data.splitlines()]
    assert len(ids) == 100000
    heal(run)
    # Each broker child finds its own way back.
    for job in ids[0], ids[-1]:
        assert eventually(lambda job=job: job_state(api, job), 10, "the job can be read") == "queued"


def no_small_disk():
    if not shutil.which("unshare"):
        return "there is no unshare(1)"
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return None if done.returncode == 0 else "this machine lets us mount no small disk"


def fill_disk(run):
    """Writes until the small disk under Redis' files is full; returns the file to delete."""
    filler = run.stack.redis.data_dir / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


@row("F22", "the disk of the append-only file is full: Redis ends rather than lie", needs=no_small_disk,
     redis_disk_mib=48, jobs=3000)
def disk_full(run):
    filler = fill_disk(run)
    eventually(lambda: not run.stack.redis.is_alive(), 30, "Redis has ended")
    run.hold(1)
    assert submit_status(run) == 503
    filler.unlink()
    heal(run)


@row("F23", "the disk is full with appendfsync everysec: writes are refused, reads answered", needs=no_small_disk,
     redis_disk_mib=48, jobs=3000, durability="memory", redis_flags=("--appendonly", "yes", "--appendfsync", "everysec"))
def disk_full_everysec(run):
    done = next(entry.job_id for entry in run.ledger.entries if entry.seen_final)
    filler = fill_disk(run)
    eventually(lambda: submit_status(run) == 503, 30, "submits are refused")
    assert http_call(run.stack.origin, "GET", f"/v1/jobs/{done}")[0] == 200
    run.hold(2)
    filler.unlink()
    run.stack.wait_ready(30)
    run.healed()


@row("F24", "Redis is full: submits are refused, everything else drains", smoke=True)
def store_full(run):
    used = stat(run.stack.redis.cli("INFO", "memory"), "used_memory")
    run.stack.redis.cli("CONFIG", "SET", "maxmemory", used)
    eventually(lambda: any(entry.outcome == "rejected" for entry in run.ledger.entries), 20, "submits are refused")
    api = run.stack.api()
    accepted = [entry for entry in run.ledger.entries if entry.outcome == "accepted"]
    for entry in accepted[-50:]:
        assert api.finish(entry.job_id, 20)["status"] == "succeeded", "what was accepted drains while Redis is full"
    run.stack.redis.cli("CONFIG", "SET", "maxmemory", 0)
    run.stack.wait_ready(30)
    run.healed()


def somebody_else_runs(run, script):
    """A script of somebody else, which keeps Redis busy until it ends."""
    other = subprocess.Popen(["redis-cli", "-s", str(run.stack.redis.socket_path), "EVAL", script, "0"],
                             stdout=subprocess.PIPE, text=True)
    eventually(lambda: submit_status(run) == 503 or other.poll() is not None, 10, "submits are refused")
    prove(other.poll() is None, "Redis was never busy")
    assert other.communicate(timeout=60)[0].strip() == "1"
    run.healed()
    run.stack.wait_ready(30)


SPIN = "local t=redis.call('TIME') local e=t[1]*1000000+t[2]+%d repeat t=redis.call('TIME') until t[1]*1000000+t[2]>e "


@row("F25", "Redis is busy with somebody's script for 3 s", redis_flags=("--lua-time-limit", "500"))
def store_busy(run):
    somebody_else_runs(run, SPIN % 3_000_000 + "return 1")


@row("F26", "somebody's script that has written loops for 6 s and cannot be killed",
     redis_flags=("--lua-time-limit", "500"))
def store_unkillable(run):
    somebody_else_runs(run, "redis.call('SET','foreign','x') " + SPIN % 6_000_000 +
                       "return redis.call('DEL','foreign')")


@row("F27", "Redis becomes a replica under us, then a primary again")
def demoted(run):
    run.stack.redis.cli("REPLICAOF", "127.0.0.1", "1")
    eventually(lambda: not ready(run), 15, "the change is noticed")
    run.hold(2)
    run.stack.redis.cli("REPLICAOF", "NO", "ONE")
    run.stack.wait_ready(30)
    run.healed()


@row("F28", "the function library disappears, three times")
def functions_flushed(run):
    for _ in range(3):
        run.stack.redis.cli("FUNCTION", "FLUSH")
        run.hold(0.7)
    run.stack.wait_ready(30)
    run.healed()
    assert "penstock" in run.stack.redis.cli("FUNCTION", "LIST")


@row("F29", "Redis comes back empty: nothing is accepted", load=False)
def store_empty(run):
    api = run.stack.api()
    api.finish(api.submit()["id"])
    run.stack.redis.kill()
    files = list((run.stack.redis.data_dir / "appendonlydir").iterdir())
    assert files
    for path in files:
        path.unlink()
    run.stack.redis.start()
    eventually(lambda: b"store_identity" in http_call(run.stack.origin, "GET", "/readyz")[2], 15, "it is noticed")
    for _ in range(20):
        assert submit_status(run) == 503
    # A commit that the old store had no time to answer can never be recorded: its worker rightly leaves with an error.
    for worker in run.stack.workers:
        worker.kill()


@row("F30", "a bit flips in a stored request and in a stored result: wrong bytes are never served", load=False)
def bit_flip(run):
    api = run.stack.api()
    redis = run.stack.redis
    done = api.finish(api.submit()["id"])
    api.json("POST", "/v1/queues/sim-flip/pause", expect=200)
    waiting = api.submit(chat("y" * 500, model="sim-flip"))
    for job in (done["id"], waiting["id"]):
        flip(redis, next(iter(redis.cli("KEYS", f"*:j:{job.removeprefix('job_')}").splitlines())))
    for victim in victims(run.stack.broker):  # what they remember is right: only what is read again is damaged
        victim.signal(signal.SIGKILL)
    run.stack.wait_ready()
    api = run.stack.api()
    status, _, data = api.result(done["id"])
    assert status == 500 and b"corrupt" in data, (status, data)
    api.json("POST", "/v1/queues/sim-flip/resume", expect=200)
    ended = api.finish(waiting["id"], 30)
    assert ended["status"] == "failed" and ended["error"]["code"] == "corrupt_record", ended


def flip(redis, key):
    """Turns one bit near the end of a value, where the payload is."""
    script = "local n=redis.call('STRLEN',KEYS[1])-30 local c=redis.call('GETRANGE',KEYS[1],n,n) " \
             "return redis.call('SETRANGE',KEYS[1],n,string.char(bit.bxor(string.byte(c),1)))"
    assert int(redis.cli("EVAL", script, 1, key)) > 100


@row("F32", "Redis takes no further clients for 4 s")
def max_clients(run):
    with run.stack.redis.session() as session:
        refused = int(stat(session("INFO stats"), "rejected_connections"))
        session("CONFIG SET maxclients 1")
        run.kill_child(run.stack.worker)
        run.kill_child(run.stack.broker)
        run.hold(4)
        tried = int(stat(session("INFO stats"), "rejected_connections")) - refused
        session("CONFIG SET maxclients 10000")
    assert 1 <= tried <= 200, tried
    run.stack.wait_ready(30)
    run.healed()


@row("F34", "the password of Redis is changed, and back after 5 s", redis_flags=("--requirepass", "first"))
def password_changed(run):
    with run.stack.redis.session("first") as session:
        before = int(stat(session("INFO stats"), "total_connections_received"))
        session("CONFIG SET requirepass second")
        session("CLIENT KILL TYPE normal SKIPME yes")
        run.hold(5)
        tried = int(stat(session("INFO stats"), "total_connections_received")) - before
        session("CONFIG SET requirepass first")
    assert 1 <= tried <= 300, tried
    run.stack.wait_ready(30)
    run.healed()


@row("F35", "the append-only file is rewritten under load, three times")
def aof_rewrite(run):
    for _ in range(3):
        run.stack.redis.cli("BGREWRITEAOF")
        eventually(lambda: "aof_rewrite_in_progress:0" in run.stack.redis.cli("INFO", "persistence"), 60, "rewritten")
    run.healed()


@row("F36", "a sync fails: Redis ends rather than lie", shim="redis", jobs=3000)
def failing_disk(run):
    run.steer(sync_errno=errno.EIO)
    eventually(lambda: not run.stack.redis.is_alive(), 20, "Redis has ended")
    run.steer()
    heal(run)


@row("F75", "the clock of Redis jumps by an hour, back, by two minutes, and strobes", shim="redis", jobs=4000)
def clock_of_redis(run):
    for ahead_ms in (3_600_000, -3_600_000, 120_000, 0):
        run.steer(clock_ms=ahead_ms)
        run.hold(0.1)  # the shim looks every 10 ms
        shown = int(run.stack.redis.cli("TIME").split()[0]) - time.time()
        prove(abs(shown - ahead_ms / 1000) < 2, f"the clock of Redis is {shown:.0f} s ahead")
        run.hold(1.9)
    for step in range(6):
        run.steer(clock_ms=10_000 if step % 2 else -10_000)
        run.hold(1)
    run.steer()
    run.healed()
