"""A whole Penstock on this machine: a private Redis, brokers, worker pools, simulators as upstreams.

Every process is a real one, started from the folder in PENSTOCK_BIN_DIR, with its own temporary folder. Processes are
only ever signalled by the pid that was started here. Nothing waits a fixed time: `eventually` looks again until a
condition holds or its limit is over.
"""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PENSTOCK_BIN_DIR", ROOT / "build" / "bin"))
IS_SANITIZED = bool(os.environ.get("PENSTOCK_SANITIZED"))
SLOW = 4 if IS_SANITIZED else 1  # time limits, not sleeps


def eventually(condition, seconds=10.0, what="condition", interval=0.01):
    """Calls condition until it gives something true, which is returned; AssertionError after `seconds`."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {seconds * SLOW:g} s")
        time.sleep(interval)


def clean_environment():
    """Ours without what steers the suite or would override the configuration under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """One program with its log file; `lines` reads what it writes to the ready descriptor or to stdout."""

    def __init__(self, name, args, folder, ready_fd=False, env=None):
        self.name, self.folder = name, pathlib.Path(folder)
        self.log_path = self.folder / f"{name}.log"
        self._args, self._env, self._ready_fd = [str(a) for a in args], env, ready_fd
        self.popen, self._ready, self._text = None, None, b""

    def start(self):
        log = open(self.log_path, "ab")
        args, passed, out = list(self._args), (), log
        if self._ready_fd:
            self._ready, write_end = os.pipe()
            args += ["--ready-fd", str(write_end)]
            passed = (write_end,)
        else:
            self._ready, write_end = os.pipe()
            out = write_end
        self._text = b""
        self.popen = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=log, pass_fds=passed,
                                      env={**clean_environment(), **(self._env or {})},
                                      preexec_fn=_die_with_parent)
        os.close(write_end)
        log.close()
        return self

    def line(self, seconds=20.0):
        """The next line of the ready descriptor (or stdout)."""
        end = time.monotonic() + seconds * SLOW
        while b"\n" not in self._text:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{self.name} said nothing within {seconds * SLOW:g} s\n{self.log()}")
            if select.select([self._ready], [], [], min(left, 1.0))[0]:
                piece = os.read(self._ready, 65536)
                if not piece:
                    raise AssertionError(f"{self.name} ended with {self.popen.wait()}\n{self.log()}")
                self._text += piece
        line, self._text = self._text.split(b"\n", 1)
        return line.decode()

    def log(self, size=6000):
        return self.log_path.read_text(errors="replace")[-size:] if self.log_path.exists() else ""

    @property
    def pid(self):
        return self.popen.pid

    def is_alive(self):
        return self.popen is not None and self.popen.poll() is None

    def children(self):
        """Pids of the direct children."""
        found = []
        for task in pathlib.Path(f"/proc/{self.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in task.read_text().split()]
        return found

    def signal(self, number):
        if self.is_alive():
            self.popen.send_signal(number)

    def stop(self, seconds=40.0):
        """SIGTERM and the exit status; killed (and an AssertionError) when it does not end in time."""
        if self.popen is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            status = self.popen.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {seconds * SLOW:g} s\n{self.log()}") from None
        self._close()
        return status

    def kill(self):
        if self.popen is not None:
            if self.is_alive():
                self.popen.kill()
            self.popen.wait()
            self._close()

    def _close(self):
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None


class Redis(Process):
    """port 0: a unix socket only; disk_mib: its files lie on a disk of this size of their own."""

    def __init__(self, folder, durability="memory", extra=(), port=0, env=None, disk_mib=None):
        self.port, self.disk_mib = port, disk_mib
        self.socket_path = pathlib.Path(folder) / "redis.sock"
        self.data_dir = pathlib.Path(folder) / "redis" if disk_mib else pathlib.Path(folder)
        extra = list(extra)
        self.password = extra[extra.index("--requirepass") + 1] if "--requirepass" in extra else None
        aof = {"memory": ["--appendonly", "no"], "fsync": ["--appendonly", "yes", "--appendfsync", "always"],
               "everysec": ["--appendonly", "yes", "--appendfsync", "everysec"]}[durability]
        super().__init__("redis", ["redis-server", "--port", port, "--unixsocket", self.socket_path, "--dir",
                                   self.data_dir, "--save", "", "--maxmemory-policy", "noeviction", "--latency-tracking", "no",
                                   "--logfile",
                                   # Not its standard output, which nobody reads: it would stand still once that is full.
                                   pathlib.Path(folder) / "redis.log", *aof, *extra], folder, env=env)

    @property
    def url(self):
        return f"unix://{':' + self.password + '@' if self.password else ''}{self.socket_path}"

    def start(self):
        if self.disk_mib and not self.data_dir.is_mount():
            self.data_dir.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.disk_mib}m", "tmpfs", self.data_dir], check=True)
        # As whoever runs Redis for Penstock does (docs/operations.md).
        subprocess.run([ROOT / "deploy/redis/mend-aof.sh", self.data_dir], capture_output=True, timeout=120, check=True)
        super().start()
        eventually(lambda: self.is_alive() and self.cli("PING", check=False) == "PONG", 20, "redis answers")
        return self

    def remove_disk(self):
        if self.disk_mib and self.data_dir.is_mount():
            subprocess.run(["umount", self.data_dir], check=True)

    def cli(self, *args, check=True):
        secret = ["--no-auth-warning", "-a", self.password] if self.password else []
        done = subprocess.run(["redis-cli", "-s", str(self.socket_path), *secret, *map(str, args)], capture_output=True,
                              text=True, timeout=30, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"redis-cli {args}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def session(self, password=None):
        """A connection that stays open: a function that sends one command of plain words and gives its reply."""
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
            sock.connect(str(self.socket_path))

            def command(text):
                sock.sendall(text.encode() + b"\r\n")
                line = answers.readline().decode().rstrip("\r\n")
                assert not line.startswith("-"), (text, line)
                return answers.read(int(line[1:]) + 2).decode() if line.startswith("$") else line[1:]
            if password:
                command(f"AUTH {password}")
            yield command


class Sim(Process):
    def __init__(self, folder, name="sim", listen=("127.0.0.1:0",), flags=()):
        args = [BIN / "penstock-sim"]
        for address in listen:
            args += ["--listen", address]
        super().__init__(name, [*args, *flags], folder)
        self._count, self.origins = len(listen), []

    def start(self):
        super().start()
        self.origins = [self.line().split()[-1].rstrip("/") for _ in range(self._count)]
        return self

    @property
    def origin(self):
        return self.origins[0]

    def call(self, method, path, body=None):
        status, _, data = http_call(self.origin, method, path, body)
        assert status == 200, (status, data)
        return json.loads(data) if data else None

    def stats(self):
        return self.call("GET", "/stats")

    def control(self, **settings):
        return self.call("POST", "/control", settings)

    def nonces(self):
        return self.call("GET", "/stats?nonces=1")["nonces"]


def http_call(origin, method, path, body=None, headers=None, timeout=60):
    """One request on a connection of its own: (status, headers with lower-case names, bytes)."""
    parts = urllib.parse.urlsplit(origin)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout * SLOW)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class Api:
    """A client of the native API on kept-alive connections, made anew when they break."""

    def __init__(self, origin, key=None):
        self.origin, self.key = origin, key
        parts = urllib.parse.urlsplit(origin)
        self._host, self._port, self._connection = parts.hostname, parts.port, None

    def request(self, method, path, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout * SLOW)
        try:
            self._connection.request(method, path, body=body, headers=headers)
            answer = self._connection.getresponse()
            data = answer.read()
            if answer.will_close:
                self.close()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        except BaseException:
            self.close()
            raise

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def json(self, method, path, body=None, expect=None, headers=None, timeout=60):
        status, _, data = self.request(method, path, body, headers, timeout)
        if expect is not None:
            assert status == expect, (method, path, status, data[:2000])
        return json.loads(data) if data else None

    def submit(self, body=None, expect=202, **fields):
        job = {"endpoint": "/v1/chat/completions", "body": body or chat(), **fields}
        return self.json("POST", "/v1/jobs", job, expect)

    def job(self, job_id, wait=None):
        return self.json("GET", f"/v1/jobs/{job_id}" + (f"?wait={wait}" if wait else ""), expect=200, timeout=400)

    def result(self, job_id):
        return self.request("GET", f"/v1/jobs/{job_id}/result")

    def finish(self, job_id, seconds=60):
        """Waits until the job has ended."""
        end = time.monotonic() + seconds * SLOW
        while True:
            job = self.job(job_id, wait="10s")
            if job["finished_at"] is not None:
                return job
            assert time.monotonic() < end, f"job not finished: {job}"


def chat(text="hello", model="sim-model", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def embedding(text="hello", model="sim-model", **more):
    return {"model": model, "input": text, **more}


class Stack:
    """Redis, simulator, broker and worker pool that belong together; a context manager."""

    def __init__(self, durability="memory", sim_flags=(), brokers=1, children=1, upstream=None, config=None,
                 redis_flags=(), sims=1, start_worker=True, env=None, listen=("127.0.0.1:0",), redis_env=None,
                 redis_tcp=False, redis_disk_mib=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-test-"))
        self.redis = Redis(self.folder, durability, redis_flags, free_port() if redis_tcp else 0, redis_env, redis_disk_mib)
        self.sims = [Sim(self.folder, f"sim{i}", listen, sim_flags) for i in range(sims)]
        self.durability, self.env = durability, env
        self._brokers, self._children = brokers, children
        self._upstream, self._config = upstream or {}, config or {}
        self._start_worker = start_worker
        self.broker, self.workers, self.origin, self.metrics_origin = None, [], None, None

    @property
    def sim(self):
        return self.sims[0]

    @property
    def worker(self):
        return self.workers[0]

    def change_config(self, changes):
        """Before the start: what the configuration says instead; sections are merged."""
        for key, value in changes.items():
            old = self._config.get(key)
            self._config[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value

    def config_path(self):
        return self.folder / "penstock.yaml"

    def write_config(self, listen="127.0.0.1:0", metrics="127.0.0.1:0"):
        config = {
            "listen": listen, "listen_metrics": metrics, "data_dir": str(self.folder / "data"),
            "redis": {"url": self.redis.url, "durability": self.durability, "shards": 4},
            "broker": {"processes": self._brokers}, "worker": {"processes": self._children},
            "auth": {"mode": "none"}, "log": {"level": "info", "format": "text"},
            "upstreams": [{"name": sim.name, "kind": "openai", "base_url": f"{sim.origin}/v1",
                           "models": ["sim-model", "sim-*"], "concurrency": 256, **self._upstream}
                          for sim in self.sims],
        }
        for key, value in self._config.items():
            if isinstance(value, dict) and isinstance(config.get(key), dict):
                config[key].update(value)
            else:
                config[key] = value
        self.config = config
        self.config_path().write_text(json.dumps(config))  # JSON is YAML
        return config

    def start(self):
        for sim in self.sims:
            sim.start()
        self.redis.start()
        self.write_config()
        self.start_broker()
        if self._start_worker:
            self.add_worker()
        self.wait_ready()
        return self

    def start_broker(self, bin_dir=None, prefix=()):
        self.broker = Process("broker", [*prefix, (bin_dir or BIN) / "penstock-broker", "--config", self.config_path()], self.folder,
                              ready_fd=True, env=self.env).start()
        word, port, metrics_port = self.broker.line().split()
        assert word == "ready"
        self.origin = f"http://127.0.0.1:{port}"
        self.metrics_origin = f"http://127.0.0.1:{metrics_port}"
        # A restarted broker comes back where its clients look for it.
        self.write_config(f"127.0.0.1:{port}", f"127.0.0.1:{metrics_port}")

    def add_worker(self, config=None, env=None, prefix=(), bin_dir=None):
        """One more pool. prefix: what its command line starts with."""
        name = f"worker{len(self.workers)}"
        path = self.config_path()
        if config:
            path = self.folder / f"{name}.yaml"
            merged = json.loads(json.dumps(self.config))
            for key, value in config.items():
                merged[key] = {**merged[key], **value} if isinstance(value, dict) else value
            path.write_text(json.dumps(merged))
        worker = Process(name, [*prefix, (bin_dir or BIN) / "penstock-worker", "--config", path], self.folder, ready_fd=True,
                         env={**(self.env or {}), **(env or {})}).start()
        assert worker.line().startswith("ready")
        self.workers.append(worker)
        return worker

    def wait_ready(self, seconds=20):
        def ready():
            with contextlib.suppress(OSError):
                return http_call(self.origin, "GET", "/readyz")[0] == 200
            return False
        eventually(ready, seconds, "broker is ready")

    def api(self, key=None):
        return Api(self.origin, key)

    def cli(self, *args, check=True, stdin=None, key=None, timeout=120, env=None):
        environment = {**clean_environment(), "PENSTOCK_URL": self.origin or "", "PENSTOCK_CONFIG": str(self.config_path()),
                       **(env or {})}
        if key:
            environment["PENSTOCK_API_KEY"] = key
        done = subprocess.run([str(BIN / "penstock"), *map(str, args)], capture_output=True, text=True, input=stdin,
                              timeout=timeout * SLOW, check=False, env=environment, cwd=self.folder)
        if check:
            assert done.returncode == 0, (args, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def metrics(self):
        """Metric lines as a dict, labels included in the name."""
        status, _, data = http_call(self.metrics_origin, "GET", "/metrics")
        assert status == 200
        rows = (line.rsplit(" ", 1) for line in data.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
                         for path in sorted(self.folder.glob("*.log")))

    def __enter__(self):
        try:
            return self.start()
        except BaseException as error:
            print(self.logs())
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind, error, trace):
        problems = []
        for process in [*self.workers, self.broker]:
            if process is None or process.popen is None:
                continue
            was_alive = process.is_alive()
            try:
                status = process.stop()
                if was_alive and status != 0:
                    problems.append(f"{process.name} ended with {status}\n{process.log()}")
            except AssertionError as problem:
                problems.append(str(problem))
        for process in [*self.sims, self.redis]:
            process.kill()
        self.redis.remove_disk()
        for path in self.folder.glob("*.log"):
            text = path.read_text(errors="replace")
            if "AddressSanitizer" in text or "runtime error:" in text or "LeakSanitizer" in text:
                problems.append(f"{path.name}: {text[-6000:]}")
        if kind is not None or problems:
            print(self.logs())
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None and problems:
            raise AssertionError("\n".join(problems))


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
