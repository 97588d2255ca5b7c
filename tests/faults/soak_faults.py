"""The faults of the soak: each is made and healed by one function. What is spared is never killed, so that its memory can be
followed from the begin of the run to its end: the first broker child and the whole second worker pool."""

import contextlib
import json
import os
import random
import signal
import socket
import time

from tests.harness.proxy import reset
from tests.harness.stack import chat, eventually, http_call

FAULTS = {}
HEAVY = ("Redis is paused for 6 s", "the upstream never answers, for 5 s", "Redis is killed and restarted",
         "clients leave and crawl")


def fault(name):
    def register(function):
        FAULTS[name] = function
        return function
    return register


class Plan:
    """The order of the faults: those that need most memory first, then every one once in random order, again and again."""

    def __init__(self, seed):
        self._random, self._left = random.Random(seed), list(HEAVY)

    def next(self):
        if not self._left:
            self._left = list(FAULTS)
            self._random.shuffle(self._left)
        return self._left.pop(0)


class Scene:
    """What a fault works with. Only the main thread makes faults: children die with the thread that started them."""

    def __init__(self, stack, seed):
        self.stack, self.random = stack, random.Random(seed)
        self.spared_pool = stack.workers[1]
        self.spared_broker = stack.broker.children()[0]

    @property
    def pool(self):
        return self.stack.workers[0]

    def hold(self, seconds):
        """The time a fault lasts."""
        time.sleep(seconds)

    def one_child(self, process):
        """A child of a supervisor that is not spared."""
        def others():
            return [pid for pid in process.children() if pid != self.spared_broker]
        return self.random.choice(eventually(others, 30, f"{process.name} has a child"))

    def send(self, pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def all_children_back(self):
        eventually(lambda: len(self.stack.broker.children()) == 2, 60, "both broker children are back")
        eventually(lambda: len(self.pool.children()) == 2, 60, "both worker children are back")

    def replace_pool(self, end):
        """A new first pool before or after the old one has ended by `end`."""
        old = self.pool
        end(old)
        new = self.stack.add_worker()
        self.stack.workers.remove(new)
        self.stack.workers[0] = new

    def heal_redis(self):
        redis = self.stack.redis
        redis.kill()
        try:
            redis.start()
        except AssertionError:  # a large file on a busy machine takes longer to load than tests allow
            eventually(lambda: redis.cli("PING", check=False) == "PONG", 120, "Redis has loaded its file")
        self.stack.wait_ready(60)


@fault("a worker child is killed")
def worker_child(scene):
    scene.send(scene.one_child(scene.pool), signal.SIGKILL)


@fault("a broker child is killed")
def broker_child(scene):
    scene.send(scene.one_child(scene.stack.broker), signal.SIGKILL)


@fault("a worker pool is killed, supervisor and children")
def worker_pool(scene):
    def end(pool):
        children = pool.children()
        pool.kill()
        for pid in children:
            scene.send(pid, signal.SIGKILL)
    scene.replace_pool(end)


@fault("a worker supervisor is killed, its children notice")
def worker_supervisor(scene):
    def end(pool):
        children = pool.children()
        pool.kill()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 20, "the orphans have gone")
    scene.replace_pool(end)


@fault("a worker child is paused for longer than its lease")
def worker_paused(scene):
    pid = scene.one_child(scene.pool)
    scene.send(pid, signal.SIGSTOP)
    scene.hold(4.5)
    scene.send(pid, signal.SIGCONT)


@fault("a broker child is paused for 5 s")
def broker_paused(scene):
    pid = scene.one_child(scene.stack.broker)
    scene.send(pid, signal.SIGSTOP)
    scene.hold(5)
    scene.send(pid, signal.SIGCONT)


@fault("Redis is killed and restarted")
def redis_killed(scene):
    scene.heal_redis()


@fault("Redis is killed while it rewrites its file")
def redis_killed_rewriting(scene):
    with contextlib.suppress(AssertionError):  # it may be at it already
        scene.stack.redis.cli("BGREWRITEAOF")
    scene.heal_redis()


@fault("Redis is paused for 6 s")
def redis_paused(scene):
    os.kill(scene.stack.redis.pid, signal.SIGSTOP)
    scene.hold(6)
    os.kill(scene.stack.redis.pid, signal.SIGCONT)
    scene.stack.wait_ready(60)


@fault("Redis closes every connection, three times")
def redis_connections(scene):
    for _ in range(3):
        for kind in ("normal", "pubsub"):
            scene.stack.redis.cli("CLIENT", "KILL", "TYPE", kind)
        scene.hold(0.7)
    scene.stack.wait_ready(60)


@fault("Redis is full for 3 s")
def redis_full(scene):
    used = scene.stack.redis.cli("INFO", "memory").split("used_memory:")[1].split()[0]
    scene.stack.redis.cli("CONFIG", "SET", "maxmemory", used)
    scene.hold(3)
    scene.stack.redis.cli("CONFIG", "SET", "maxmemory", 0)
    scene.stack.wait_ready(60)


@fault("Redis loses the function library, three times")
def functions_dropped(scene):
    for _ in range(3):
        scene.stack.redis.cli("FUNCTION", "FLUSH")
        scene.hold(0.7)
    scene.stack.wait_ready(60)


@fault("every second upstream call fails with 500, for 8 s")
def upstream_fails(scene):
    scene.stack.sim.control(fail_rate=0.5)
    scene.hold(8)
    scene.stack.sim.control(fail_rate=0)


@fault("the upstream never answers, for 5 s")
def upstream_stalls(scene):
    scene.stack.sim.control(never=True)
    scene.hold(5)
    scene.stack.sim.control(never=False)


@fault("upstream answers are cut, short and reset, for 5 s")
def upstream_cuts(scene):
    for wrong in ({"drop": "mid_body"}, {"short_length": True}, {"drop": "reset"}, {"drop": "after_headers"}):
        scene.stack.sim.control(**wrong)
        scene.hold(0.8)
        scene.stack.sim.control(reset=True)
        scene.hold(0.4)


@fault("the upstream answers 429, Retry-After 1 s, for 4 s")
def upstream_refuses(scene):
    scene.stack.sim.control(status=429, retry_after="1")
    scene.hold(4)
    scene.stack.sim.control(status=None, retry_after=None)


@fault("clients leave and crawl")
def clients_leave(scene):
    host, port = scene.stack.origin.removeprefix("http://").rsplit(":", 1)
    body = json.dumps({"endpoint": "/v1/chat/completions", "body": chat("left")}).encode()
    post = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    poll = b"GET /v1/jobs?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n" * 10
    crawling = []
    try:
        for index in range(400):
            sock = socket.create_connection((host, int(port)), 10)
            crawling.append(sock)
            text = (post[:40], post[:-5], poll, post[:-1])[index % 4]
            sock.sendall(text)
            if index % 2:
                (reset if index % 4 == 1 else socket.socket.close)(sock)
        scene.hold(3)
    finally:
        for sock in crawling:
            sock.close()


@fault("the configuration is reloaded: broken, changed, as it was")
def reloaded(scene):
    path = scene.stack.config_path()
    good = path.read_text()
    changed = json.loads(good)
    for upstream in changed["upstreams"]:
        upstream["concurrency"] = upstream["concurrency"] // 2
    for text in ("listen: [broken", json.dumps(changed), good):
        path.write_text(text)
        for process in (scene.pool, scene.spared_pool, scene.stack.broker):
            process.signal(signal.SIGHUP)
        scene.hold(1.5)
    assert http_call(scene.stack.origin, "GET", "/readyz")[0] == 200


@fault("everything is restarted in turn, as an update would")
def rolling(scene):
    pid = scene.one_child(scene.stack.broker)
    scene.send(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), 40, "the broker child has ended")

    def end(pool):
        status = pool.stop(60)
        assert status == 0, f"a worker pool that was asked to stop ended with {status}"
    scene.replace_pool(end)
