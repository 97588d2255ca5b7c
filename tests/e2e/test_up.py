"""penstock up: the whole stack on one machine, from its first line to its last process, and make demo."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from tests.harness.stack import BIN, ROOT, SLOW, clean_environment, eventually, free_port, http_call


def children_of(pid):
    """The process and everything below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += children_of(int(child))
    return found


def is_alive(pid):
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Up:
    """One `penstock up` and all its processes; none is left when the block ends."""

    def __init__(self, folder, *args, env=None, wait=True):
        self.data = folder / "data"
        self.log = open(folder / "up.log", "a+", encoding="utf-8")
        self.popen = subprocess.Popen([str(BIN / "penstock"), "up", "--data-dir", str(self.data), "--json", *map(str, args)],
                                      stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=folder,
                                      env={**clean_environment(), **(env or {})}, start_new_session=True)
        self.hello = None
        self.pids = []
        if wait:
            self.read_hello()

    def read_hello(self):
        line = self.popen.stdout.readline()
        assert line, self.said()
        self.hello = json.loads(line)
        self.pids = children_of(self.popen.pid)

    def said(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(encoding="utf-8")

    @property
    def env(self):
        return {**clean_environment(), "PENSTOCK_URL": self.hello["url"], "PENSTOCK_API_KEY": self.hello["api_key"]}

    def cli(self, *args, check=True, **more):
        done = subprocess.run([str(BIN / "penstock"), *map(str, args)], capture_output=True, text=True, check=False,
                              timeout=60 * SLOW, cwd=self.data.parent, **{"env": self.env, **more})
        assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
        return done

    def child(self, name):
        """Pid of the direct child whose command line begins with the name."""
        for pid in children_of(self.popen.pid):
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split(" ")[0].rpartition("/")[2]
                if f"PPid:\t{self.popen.pid}\n" in status and command.startswith(name):
                    return pid
        return None

    def stop(self, number=signal.SIGINT):
        self.popen.send_signal(number)
        return self.popen.wait(60 * SLOW)

    def is_gone(self):
        return not any(is_alive(pid) for pid in self.pids)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.pids = sorted({*self.pids, *children_of(self.popen.pid)})
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(60 * SLOW)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if kind is not None:
            print(self.said())
        self.popen.stdout.close()
        eventually(self.is_gone, 60, "no process is left")
        self.log.close()


def test_it_serves_and_leaves_nothing(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 0) as up:
        assert http_call(up.hello["url"], "GET", "/v1/jobs")[0] == 401
        assert json.loads(up.cli("submit", "-m", up.hello["model"], "hello", "--wait").stdout)["choices"]
        assert "no process" not in up.said() and len(up.pids) >= 6
        assert "MADE UP" in up.said()
        assert oct((up.data / "api-key").stat().st_mode & 0o777) == "0o600"
        assert oct(up.data.stat().st_mode & 0o777) == "0o700"
        second = up.cli("up", "--data-dir", up.data, "--port", 0, check=False)
        assert second.returncode == 2 and f"process {up.popen.pid}" in second.stderr
        assert up.stop() == 0, up.said()
        assert up.is_gone()
    # What it took in is still there the next time, and the key is the same.
    with Up(tmp_path, "--port", 0, "--simulate") as again:
        assert again.hello["api_key"] == up.hello["api_key"]
        assert len(again.cli("ls", "--json").stdout.splitlines()) == 1
        doctor = again.cli("doctor", "--config", again.hello["config"])
        assert "0 problems" in doctor.stdout


def test_doctor_finds_it_by_itself(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate") as up:
        (tmp_path / "penstock-data").symlink_to(up.data)
        done = up.cli("doctor", env=clean_environment())
        assert "up.yaml is valid" in done.stdout and f"{up.hello['url']} is ready" in done.stdout


def test_killed_hard_it_leaves_nothing_either(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 60000) as up:
        up.cli("submit", "-m", "sim-model", "hello")
        up.popen.send_signal(signal.SIGKILL)
        up.popen.wait()
        # The next one waits for what is left of it, and goes on with its jobs.
        with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 0) as again:
            assert up.is_gone()
            job = json.loads(again.cli("ls", "--json").stdout.splitlines()[0])["id"]
            again.cli("wait", job, "--timeout", "60s")


def test_a_busy_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Up(tmp_path, "--port", port, "--simulate", wait=False) as up:
            assert up.popen.wait(30 * SLOW) == 1
            assert f"127.0.0.1:{port}" in up.said() and "--port" in up.said()
            assert not (up.data / "redis.log").exists()


def test_a_wrong_configuration_is_said(tmp_path):
    (tmp_path / "penstock.yaml").write_text("listen: 7\n")
    with Up(tmp_path, wait=False) as up:
        assert up.popen.wait(30 * SLOW) == 2 and "listen" in up.said()
    (tmp_path / "penstock.yaml").write_text("redis: {durability: replica}\n")
    with Up(tmp_path, wait=False) as up:
        assert up.popen.wait(30 * SLOW) == 2 and "replica" in up.said()
    (tmp_path / "penstock.yaml").unlink()
    with Up(tmp_path, "extra", wait=False) as up:
        assert up.popen.wait(30 * SLOW) == 2


def test_the_configuration_counts_and_the_environment_cannot_split_it(tmp_path):
    port = free_port()
    (tmp_path / "penstock.yaml").write_text(
        f"listen: 127.0.0.1:{port}\nlisten_metrics: 127.0.0.1:0\nworker: {{processes: 1}}\naliases: {{mine: sim-model}}\n")
    env = {"PENSTOCK_REDIS_URL": "redis://127.0.0.1:1/0", "PENSTOCK_AUTH_MODE": "none", "PENSTOCK_REDIS_DURABILITY": "memory"}
    with Up(tmp_path, "--simulate", "--sim-delay-ms", 0, env=env) as up:
        assert up.hello["url"] == f"http://127.0.0.1:{port}"
        assert json.loads(up.cli("submit", "-m", "mine", "hello", "--wait").stdout)["choices"]
        assert http_call(up.hello["url"], "GET", "/v1/jobs")[0] == 401


def test_interrupted_while_it_starts(tmp_path):
    for number in range(4):
        with Up(tmp_path, "--port", 0, "--simulate", wait=False) as up:
            eventually(lambda: (up.data / "lock").exists(), 20, "it has begun")
            end = time.monotonic() + number * 0.15
            eventually(lambda: time.monotonic() > end, 20, "a moment has passed")
            up.pids = children_of(up.popen.pid)
            # Killed by it only before anything was started.
            assert up.stop() in (0, 130, -signal.SIGINT), up.said()


def test_what_dies_comes_back_where_it_was(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 0) as up:
        for name in ("penstock-broker", "penstock-sim", "penstock-worker", "redis-server"):
            old = up.child(name)
            os.kill(old, signal.SIGKILL)
            eventually(lambda: up.child(name) not in (None, old), 30, f"{name} is back")
            eventually(lambda: up.cli("submit", "-m", "sim-model", "hello", "--wait", check=False).returncode == 0, 60,
                       f"jobs run again after {name}")
        up.pids = children_of(up.popen.pid)


def test_running_calls_may_end(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 1500) as up:
        job = up.cli("submit", "-m", "sim-model", "hello").stdout.strip()
        eventually(lambda: json.loads(up.cli("get", job, "--json").stdout)["status"] == "running", 20, "it runs")
        # As a terminal does it: the whole process group hears of it.
        os.killpg(up.popen.pid, signal.SIGINT)
        assert up.popen.wait(60 * SLOW) == 0, up.said()
    with Up(tmp_path, "--port", 0, "--simulate") as again:
        shown = json.loads(again.cli("get", job, "--json").stdout)
        assert shown["status"] == "succeeded" and shown["attempt"] == 0


def test_a_second_interrupt_means_now(tmp_path):
    with Up(tmp_path, "--port", 0, "--simulate", "--sim-delay-ms", 600000) as up:
        job = up.cli("submit", "-m", "sim-model", "hello").stdout.strip()
        eventually(lambda: json.loads(up.cli("get", job, "--json").stdout)["status"] == "running", 20, "it runs")
        up.popen.send_signal(signal.SIGINT)
        worker = up.child("penstock-worker")
        begin = time.monotonic()
        eventually(lambda: "SigPnd" in pathlib.Path(f"/proc/{worker}/status").read_text(), 5, "it is there")
        up.popen.send_signal(signal.SIGINT)
        while up.popen.poll() is None and time.monotonic() - begin < 12 * SLOW:
            with contextlib.suppress(subprocess.TimeoutExpired):
                up.popen.wait(0.5)
                break
            up.popen.send_signal(signal.SIGINT)
        assert up.popen.wait(1) == 0, up.said()
        assert time.monotonic() - begin < 12 * SLOW


def test_a_stale_socket_and_a_foreign_redis(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(data / "redis.sock"))
    with Up(tmp_path, "--port", 0, "--simulate") as up:
        assert up.stop() == 0
    foreign = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(data / "redis.sock"), "--save", "",
                                "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        eventually((data / "redis.sock").exists, 20, "it listens")
        with Up(tmp_path, "--port", 0, "--simulate", wait=False) as up:
            assert up.popen.wait(30 * SLOW) == 1 and "not started by us" in up.said()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_redis_that_does_not_start_says_why(tmp_path):
    data = tmp_path / "data"
    (data / "appendonlydir").mkdir(parents=True)
    (data / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with Up(tmp_path, "--port", 0, "--simulate", wait=False) as up:
        assert up.popen.wait(60 * SLOW) == 1
        assert "redis.log" in up.said() and "manifest" in up.said()


def test_two_stacks_side_by_side(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with Up(folders[0], "--port", 0, "--simulate") as one, Up(folders[1], "--port", 0, "--simulate") as two:
        one.cli("submit", "-m", "sim-model", "hello", "--wait")
        assert two.cli("ls").stdout == ""


def test_the_greeting_for_people(tmp_path):
    process = subprocess.Popen([str(BIN / "penstock"), "up", "--data-dir", str(tmp_path / "d"), "--port", "0", "--simulate"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean_environment(), cwd=tmp_path)
    try:
        text = ""
        while "--wait" not in text:
            line = process.stdout.readline()
            assert line
            text += line
        assert "curl http://127.0.0.1:" in text and "pk_" in text and "PENSTOCK_API_KEY=pk_" in text
        command = text[text.index("  curl "):text.index("\nor, in")].replace("\\\n", " ").strip()
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout)["object"] == "job"
    finally:
        process.terminate()
        assert process.wait(60 * SLOW) == 0
        process.stdout.close()


@pytest.mark.timeout(120)
def test_the_demo(tmp_path):
    env = {**clean_environment(), "PENSTOCK_BIN_DIR": str(BIN), "DEMO_RESULTS": str(tmp_path / "results"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([str(ROOT / "deploy/demo.sh")], capture_output=True, text=True, timeout=100, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 succeeded" in done.stderr and "100 succeeded" in done.stderr and "one after the other" in done.stderr
    for name, count in (("generation", 15), ("embedding", 100)):
        assert len((tmp_path / "results" / f"{name}.results.jsonl").read_text().splitlines()) == count
    assert not list(tmp_path.glob("penstock-demo*"))
