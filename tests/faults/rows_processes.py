"""Rows A and H88: our own processes are killed, stopped, restarted, misconfigured."""

import json
import signal
import time

from tests.faults.matrix import not_here, prove, row, victims
from tests.harness.stack import chat, eventually, http_call

not_here("F16", "a sandbox helper misbehaves", "there are no helper processes yet")


def seconds_to_run_again(run):
    """Kills one of two children that hold forty long jobs; seconds until the last of its jobs is called again."""
    api = run.stack.api()
    for number in range(40):
        api.submit(chat(model="sim-again", user=f"sim:nonce=again{number},delay_ms=3000"))

    def calls():
        return sum(count for nonce, count in run.executions().items() if nonce.startswith("again"))
    eventually(lambda: calls() == 40, 20, "all forty run")
    run.hit_child(run.stack.worker)
    killed, last, seen = time.monotonic(), None, 40
    while time.monotonic() < killed + 2.5:
        now = calls()
        if now > seen:
            last, seen = time.monotonic(), now
        time.sleep(0.01)
    prove(seen > 40, "the child that was killed held none of them")
    return last - killed


@row("F01", "a worker child is killed each second: its jobs run again within 1 s", smoke=True)
def worker_child_killed(run):
    for index in range(4):
        run.hit_child(run.stack.worker, index)
        run.hold(1.0)
    run.healed()
    run.recovered_s = seconds_to_run_again(run)
    assert run.recovered_s <= 1.0, f"a killed child's jobs ran again after {run.recovered_s:.2f} s"


@row("F02", "the whole worker pool is killed at once", recovery_max_s=5)
def pool_killed(run):
    children = victims(run.stack.worker)
    run.stack.worker.kill()
    for victim in children:
        victim.signal(signal.SIGKILL)
    run.stack.add_worker()
    run.healed()


@row("F03", "a worker child is paused for longer than its lease, then goes on", smoke=True,
     config={"worker": {"lease_ms": 2000}}, delay_ms=300)
def zombie_child(run):
    victim = run.hit_child(run.stack.worker, number=signal.SIGSTOP)
    run.hold(4.5)
    prove(victim.state() == "T", "it was not stopped all the time")
    victim.signal(signal.SIGCONT)
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(60)
    prove(any(count > 1 for count in run.executions().values()), "it held no job")
    assert victim.is_alive(), "it did not survive its pause"


@row("F07", "a worker's loop stands still: the supervisor replaces it", jobs=4000)
def loop_stalls(run):
    victim = run.hit_child(run.stack.worker, number=signal.SIGSTOP)
    eventually(lambda: not victim.is_alive() and len(run.stack.worker.children()) == 2, 25, "the child is replaced")
    run.healed()


@row("F08", "a broker child is killed each second", smoke=True)
def broker_child_killed(run):
    for index in range(5):
        run.kill_child(run.stack.broker, index)
        run.hold(1.0)
    run.healed()


@row("F09", "brokers die after Redis has committed and before they have answered", smoke=True, proxied="broker")
def broker_dies_unanswered(run):
    for _ in range(4):
        before = run.proxy.swallowed
        run.proxy.mode = "no-answers"
        eventually(lambda before=before: run.proxy.swallowed > before, 10, "an answer of Redis was thrown away")
        run.hold(0.2)
        for victim in victims(run.stack.broker):
            victim.signal(signal.SIGKILL)
        run.proxy.mode = "pass"
        run.stack.wait_ready()
        run.hold(0.5)
    run.healed()


@row("F10", "a broker child is paused for 5 s")
def broker_paused(run):
    victim = run.hit_child(run.stack.broker, number=signal.SIGSTOP)
    run.hold(5)
    prove(victim.state() in "TZ", "it was not stopped")  # or replaced because it gave no sign of life
    victim.signal(signal.SIGCONT)
    run.healed()


@row("F11", "the worker's supervisor is killed: its children end within 5 s")
def supervisor_killed(run):
    children = victims(run.stack.worker)
    run.stack.worker.kill()
    eventually(lambda: not any(victim.is_alive() for victim in children), 5, "the orphans have gone")
    run.stack.add_worker()
    run.healed()


@row("F12", "broker children are restarted one after the other: nobody is refused")
def rolling_brokers(run):
    for _ in range(6):
        old = run.hit_child(run.stack.broker, number=signal.SIGTERM)
        eventually(lambda old=old: not old.is_alive() and len(run.stack.broker.children()) == 2, 20, "a new child")
    run.healed()
    run.ledger.join()
    assert all(entry.outcome == "accepted" for entry in run.ledger.entries), "a client was refused"


@row("F13", "workers are restarted one after the other under long jobs: no attempt is charged", delay_ms=2500, rate=60,
     jobs=600, config={"worker": {"lease_ms": 3000, "drain_timeout_ms": 500}})
def rolling_workers(run):
    for _ in range(3):
        old = run.stack.workers[-1]
        run.stack.add_worker()
        assert old.stop() == 0
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(120)
    api = run.stack.api()
    jobs = [api.job(entry.job_id) for entry in run.ledger.entries if entry.job_id]
    assert all(job["attempt"] <= 1 for job in jobs), [job for job in jobs if job["attempt"] > 1][:3]
    assert sum(run.stack.sim.nonces().values()) > len(jobs), "no job was handed back"


@row("F14", "a broken configuration is reloaded: the old one stays")
def broken_reload(run):
    path = run.stack.config_path()
    good = path.read_text()
    path.write_text("listen: [broken")
    for process in (run.stack.worker, run.stack.broker):
        children = process.children()
        process.signal(signal.SIGHUP)
        eventually(lambda process=process: "reload_refused" in process.log(), 10, "the refusal is logged")
        assert process.children() == children
    path.write_text(good)
    assert http_call(run.stack.origin, "GET", "/readyz")[0] == 200


@row("F15", "children that die at once are restarted after growing pauses", load=False)
def crash_loop(run):
    worker = run.stack.worker
    end, ended = time.monotonic() + 6, set()
    while time.monotonic() < end:
        for victim in victims(worker):
            if victim.pid not in ended and victim.signal(signal.SIGKILL):
                ended.add(victim.pid)
        time.sleep(0.005)
    assert worker.is_alive() and 4 <= len(ended) < 60, len(ended)
    api = run.stack.api()
    assert api.finish(api.submit()["id"], 40)["status"] == "succeeded"


@row("F88", "2,000 cancels race the commits: exactly one wins", load=False)
def cancel_storm(run):
    api = run.stack.api()
    ends = {"cancelled": 0, "succeeded": 0}
    for _ in range(20):
        jobs = []
        for index in range(100):
            jobs.append(api.submit(chat(user="sim:delay_ms=2"))["id"])
            run.hold(index % 11 * 0.0005)  # the commit comes some 3 ms after the submit
            api.request("POST", f"/v1/jobs/{jobs[-1]}/cancel")
        for job in jobs:
            done = api.finish(job)
            ends[done["status"]] += 1
            status, _, data = api.result(job)
            assert (status == 200) == (done["status"] == "succeeded"), (done, status, data)
            if done["status"] == "cancelled":
                assert json.loads(data)["code"] == "cancelled", data
    assert min(ends.values()) >= 50 and sum(ends.values()) == 2000, ends
