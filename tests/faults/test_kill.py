"""5,000 jobs while worker children, brokers and whole pools are killed with SIGKILL: every accepted job has one outcome."""

import random
import signal
import time

from tests.faults.matrix import victims
from tests.harness.ledger import Ledger
from tests.harness.stack import Stack, eventually

JOBS = 5000
KILLS_MAX = 12


def kill_one_child(process, chooser):
    """SIGKILL for one child of a supervisor; the number of processes hit."""
    children = victims(process)
    return int(bool(children) and chooser.choice(children).signal(signal.SIGKILL))


def check(ledger, stack, kills):
    left = ledger.drain()
    counts, wrong = ledger.verdict(stack.sim.nonces())
    print(f"kills {kills}, {counts}")
    assert not left, f"{len(left)} jobs not final, e.g. {left[:3]}"
    assert not wrong, "\n".join(wrong[:20])
    assert counts["accepted"] >= JOBS // 2
    return counts


def run(stack, seed, tick, seconds_between=0.5, delay_ms=20):
    chooser = random.Random(seed)
    ledger = Ledger(stack.origin, JOBS, delay_ms=delay_ms, seed=seed).start()
    kills = 0
    while ledger.is_submitting():
        # A supervisor's pauses grow with each death: a bounded number keeps the load moving.
        kills += tick(chooser) if kills < KILLS_MAX else 0
        time.sleep(seconds_between * chooser.uniform(0.5, 1.5))
    ledger.join()
    # What was accepted last is still running: the faults go on for two more rounds.
    for _ in range(2):
        kills += tick(chooser)
    return ledger, kills


def test_worker_children_are_killed():
    with Stack(durability="fsync", children=2, config={"worker": {"lease_ms": 3000}}) as stack:
        ledger, kills = run(stack, 11, lambda chooser: kill_one_child(stack.worker, chooser))
        assert kills >= 3
        check(ledger, stack, kills)
        eventually(lambda: len(stack.worker.children()) == 2, 20, "both children are back")


def test_brokers_are_killed():
    with Stack(durability="fsync", brokers=2, children=1) as stack:
        ledger, kills = run(stack, 12, lambda chooser: kill_one_child(stack.broker, chooser))
        assert kills >= 3
        check(ledger, stack, kills)
        eventually(lambda: len(stack.broker.children()) == 2, 20, "both children are back")
        stack.wait_ready()


def test_everything_is_killed_in_turn():
    with Stack(durability="fsync", brokers=2, children=2, config={"worker": {"lease_ms": 3000}}) as stack:
        def tick(chooser):
            victim = chooser.choice(["child", "broker", "pool"])
            if victim == "child":
                return kill_one_child(stack.worker, chooser)
            if victim == "broker":
                return kill_one_child(stack.broker, chooser)
            stack.workers[-1].kill()  # the supervisor; its children notice and go
            stack.add_worker()
            return 1

        ledger, kills = run(stack, 13, tick)
        check(ledger, stack, kills)
        eventually(lambda: len(stack.broker.children()) == 2, 20, "both broker children are back")
        stack.wait_ready()


def test_redis_is_killed_and_restarted():
    with Stack(durability="fsync", children=2, config={"worker": {"lease_ms": 3000}}) as stack:
        def tick(_chooser):
            stack.redis.kill()
            stack.redis.start()
            return 1

        ledger, kills = run(stack, 14, tick, seconds_between=2.0)
        check(ledger, stack, kills)
        stack.wait_ready()
