"""Rows that need a fault at one instruction: programs of the test build, whose named points the row arms."""

import re
import time

from tests.faults.matrix import prove, row, victims
from tests.harness.stack import chat, eventually

POISON = "worker-answer crash 0 1 99 mischief-"  # of a job whose answer says so the child dies


def poison(api, number):
    """A job that kills whoever reads its answer; its id."""
    return api.submit(chat("x", model="sim-poison", user=f"sim:nonce=mischief-{number},delay_ms=100"))["id"]


def deaths(run):
    """How many jobs each dead child held, in order, as its sibling or successor found them."""
    return [int(jobs) for jobs in re.findall(r"recovering\b.*?\bjobs=(\d+)", run.stack.worker.log(1 << 24))]


@row("F04", "a job kills the child that works on it: it is set aside, nobody else is hurt", failpoints=(POISON,),
     delay_ms=200, jobs=2000)
def poison_job(run):
    api = run.stack.api()
    begin = len(deaths(run))
    job = api.finish(poison(api, 0), 60)
    assert job["status"] == "failed" and job["error"]["code"] == "poison", job
    assert run.points.fired("worker-answer") == 4, "one death in company, three alone"
    eventually(lambda: len(deaths(run)) - begin == 4, 20, "the deaths were noticed")
    in_company = [jobs for jobs in deaths(run)[begin:] if jobs > 1]
    assert len(in_company) <= 1, f"jobs of the children that died: {deaths(run)[begin:]}"
    run.healed()


@row("F05", "six such jobs among 63 others that run for 6 s: none of the others is set aside", failpoints=(POISON,), load=False,
     config={"worker": {"lease_ms": 3000}})
def poison_among_bystanders(run):
    api = run.stack.api()
    beside = [api.submit(chat(f"bystander {i}", user=f"sim:nonce=by{i},delay_ms=6000"))["id"] for i in range(63)]
    eventually(lambda: len(run.executions()) == 63, 20, "all run")
    bad = [poison(api, number) for number in range(6)]
    for job in [api.finish(job, 120) for job in bad]:
        assert job["status"] == "failed" and job["error"]["code"] == "poison", job
    done = [api.finish(job, 120) for job in beside]
    assert all(job["status"] == "succeeded" and job["attempt"] <= 1 for job in done), [
        job for job in done if job["status"] != "succeeded"][:3]
    # Each of the six kills children that others run in once or twice, until it is known; from then on it is alone.
    company = sum(jobs > 1 for jobs in deaths(run))
    assert run.points.fired("worker-answer") == 6 * 4, run.points.fired("worker-answer")
    assert company <= 6 * 2, f"jobs of the children that died: {deaths(run)}"


@row("F07b", "a worker's loop spins for a minute in a callback: the supervisor replaces it", jobs=4000, failpoints=(),
     recovery_max_s=5)
def loop_spins(run):
    before = {victim.pid for victim in victims(run.stack.worker)}
    begin = time.monotonic()
    run.points.arm("worker-loop spin 60000 1 1 -")
    eventually(lambda: run.points.fired("worker-loop") == 1, 5, "it spins")
    eventually(lambda: len(set(run.stack.worker.children()) - before) == 1 and len(run.stack.worker.children()) == 2, 25,
               "the child is replaced")
    assert time.monotonic() - begin < 15
    run.healed()


@row("F09b", "a broker dies after the commit and before the answer, at one submit in a hundred", smoke=True,
     failpoints=("broker-after-commit crash 0 100 8 -",))
def broker_dies_at_the_answer(run):
    eventually(lambda: run.points.fired("broker-after-commit") >= 3, 60, "three died")
    run.points.arm()
    run.healed()
    run.ledger.join()
    again = [entry for entry in run.ledger.entries if entry.key and entry.outcome != "accepted"]
    assert not again, "a keyed submit stays without an answer"


@row("F01b", "a worker dies between the upstream's answer and the commit, at one job in a hundred", jobs=2000,
     failpoints=("worker-before-commit crash 0 100 6 -",))
def worker_dies_before_commit(run):
    eventually(lambda: run.points.fired("worker-before-commit") >= 4, 60, "four died")
    run.points.arm()
    run.healed()


@row("F11b", "a supervisor dies when it is about to hand over the jobs of a dead child", jobs=3000,
     failpoints=("supervisor-before-handover crash 0 1 1 -",))
def supervisor_dies_at_the_handover(run):
    left = victims(run.stack.worker)
    run.hit_child(run.stack.worker)
    eventually(lambda: not run.stack.worker.is_alive(), 10, "the supervisor has died")
    eventually(lambda: not any(victim.is_alive() for victim in left), 10, "the orphans have gone")
    prove(run.points.fired("supervisor-before-handover") == 1, "it died of something else")
    run.stack.worker.kill()
    run.stack.add_worker()
    run.healed()
