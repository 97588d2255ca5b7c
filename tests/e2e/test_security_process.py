"""Processes, host and Redis users, rows S70 to S84 of docs/security.md, on a whole system that logs in to Redis
with the users of deploy/redis/users.acl."""

import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import urllib.parse

import pytest

from tests.harness.stack import BIN, IS_SANITIZED, ROOT, Redis, Stack, chat, clean_environment, eventually, http_call

ROLES = ("broker", "worker", "ops", "loader")
CANARY = {name: f"canary-{name}-{os.urandom(8).hex()}" for name in ("prompt", "upstream", "answer", *ROLES)}
PROGRAMS = ("penstock-broker", "penstock-worker", "penstock", "penstock-broker-child", "penstock-worker-child")


def write_acl(path):
    """The file as it is delivered, with the digests of this run's passwords in the place of zeros."""
    lines = []
    for line in (ROOT / "deploy/redis/users.acl").read_text().splitlines():
        role = line.split()[1].removeprefix("penstock-")
        if role in ROLES:
            assert line.count("#" + "0" * 64) == 1, "no password is delivered"
            line = line.replace("0" * 64, hashlib.sha256(CANARY[role].encode()).hexdigest())
        lines.append(line)
    lines.append("user suite on >suite ~* &* +@all")  # what the tests themselves ask with
    path.write_text("\n".join(lines) + "\n")


class SuiteRedis(Redis):
    def cli(self, *args, check=True, user="suite", password="suite"):
        done = subprocess.run(["redis-cli", "-s", str(self.socket_path), "--user", user, "--no-auth-warning", "--pass", password,
                               *map(str, args)], capture_output=True, text=True, timeout=30, check=False)
        assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout.strip()

    def as_role(self, role, *args):
        return self.cli(*args, user=f"penstock-{role}", password=CANARY[role])


@pytest.fixture(scope="module")
def stack():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    made = Stack(children=2, brokers=2, start_worker=False, env={"CANARY_KEY": CANARY["upstream"]},
                 upstream={"api_key_env": "CANARY_KEY"})
    acl = made.folder / "users.acl"
    write_acl(acl)
    made.redis = SuiteRedis(made.folder, "memory", ["--aclfile", acl])
    url = {role: f"unix://penstock-{role}:{CANARY[role]}@{made.redis.socket_path}" for role in ROLES}
    made.change_config({"redis": {"url": url["broker"]}, "log": {"level": "debug"}})
    with made:
        made.add_worker(config={"redis": {"url": url["worker"]}})
        made.config["redis"]["url"] = url["ops"]
        made.ops_path = made.folder / "ops.yaml"
        made.ops_path.write_text(json.dumps({**made.config, "listen": urllib.parse.urlsplit(made.origin).netloc,
                                             "listen_metrics": urllib.parse.urlsplit(made.metrics_origin).netloc}))
        yield made


def processes(stack):
    """Every process of ours: parents and children, by name."""
    found = {"broker": stack.broker.pid, "worker": stack.worker.pid}
    for parent in (stack.broker, stack.worker):
        for i, pid in enumerate(parent.children()):
            found[f"{parent.name} child {i}"] = pid
    return found


def test_s75_whole_system_runs_with_its_users(stack):
    api = stack.api()
    done = api.finish(api.submit(chat(CANARY["prompt"]))["id"])
    assert done["status"] == "succeeded" and api.result(done["id"])[0] == 200
    delayed = api.submit(delay_ms=600000)
    assert api.json("POST", f"/v1/jobs/{delayed['id']}/cancel", expect=200)["status"] == "cancelled"
    running = api.submit(chat(user="sim:delay_ms=20000"))
    eventually(lambda: api.job(running["id"])["status"] == "running", 10, "it runs")
    api.json("POST", f"/v1/jobs/{running['id']}/cancel", expect=200)
    failed = api.finish(api.submit(chat(user="sim:status=400"))["id"])
    again = api.json("POST", f"/v1/jobs/{failed['id']}/retry", expect=202)
    assert api.finish(again["id"])["status"] == "failed"
    retried = api.finish(api.submit(chat(user="sim:status=503,fail_times=1,fail_key=acl1,nonce=acl1"))["id"])
    assert retried["status"] == "succeeded" and retried["attempt"] == 1
    large = api.finish(api.submit(chat("x" * 300000))["id"])
    assert large["status"] == "succeeded" and api.result(large["id"])[0] == 200
    assert api.request("GET", f"/v1/jobs/{done['id']}/events")[0] == 200
    assert api.request("DELETE", f"/v1/jobs/{done['id']}")[0] in (200, 204)
    assert api.json("GET", "/v1/jobs", expect=200)["data"]
    for path in ("/v1/queues", "/v1/upstreams", "/v1/workers", "/v1/stats", "/v1/models"):
        assert api.request("GET", path)[0] == 200, path
    for path in ("/v1/queues/sim-model", "/v1/upstreams/sim0"):
        api.json("POST", f"{path}/pause", expect=200)
        api.json("POST", f"{path}/resume", expect=200)
    stack.cli("ls")
    stack.cli("queues")
    api.close()
    denied = [line for line in stack.redis.cli("ACL", "LOG").splitlines() if "penstock" in line]
    assert not denied, stack.redis.cli("ACL", "LOG")


def test_s75_doctor_runs_as_ops(stack):
    eventually(lambda: json.loads(http_call(stack.origin, "GET", "/v1/workers")[2])["data"], 10, "the workers are known")
    done = stack.cli("doctor", "--config", stack.ops_path, check=False, env={"CANARY_KEY": CANARY["upstream"]})
    assert done.returncode == 0, done.stdout + done.stderr + stack.redis.cli("ACL", "LOG")
    assert stack.redis.as_role("ops", "BGREWRITEAOF").startswith("Background"), "backup"
    assert "penstock" not in stack.redis.cli("ACL", "LOG"), stack.redis.cli("ACL", "LOG")


FORBIDDEN = [("CONFIG", "SET", "maxmemory", "1"), ("EVAL", "return 1", "0"), ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"),
             ("RESTORE", "{0}:x", "0", "x"), ("ACL", "LIST"), ("SHUTDOWN",), ("SAVE",),
             ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"), ("FUNCTION", "RESTORE", "x"), ("REPLICAOF", "127.0.0.1", "1"),
             ("MONITOR",), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("MODULE", "LIST"), ("DUMP", "{0}:id"),
             ("MIGRATE", "h", "1", "k", "0", "1"), ("SWAPDB", "0", "1"), ("GET", "other:1"), ("SET", "x", "1"),
             ("GET", "{x}:id"), ("PUBLISH", "other", "1")]


@pytest.mark.parametrize("role", ["broker", "worker", "loader"])
def test_s75_other_commands_and_keys_are_refused(stack, role):
    for command in FORBIDDEN:
        assert stack.redis.as_role(role, *command).startswith("NOPERM"), (role, command)
    assert stack.redis.as_role(role, "PING") == "PONG"
    stack.redis.cli("ACL", "LOG", "RESET")


def test_s75_ops_may_look_and_not_destroy(stack):
    for command in FORBIDDEN:
        if command != ("CLIENT", "LIST"):
            assert stack.redis.as_role("ops", *command).startswith("NOPERM"), command
    stack.redis.cli("ACL", "LOG", "RESET")


def test_s76_default_user_is_off(stack):
    done = subprocess.run(["redis-cli", "-s", stack.redis.socket_path, "PING"], capture_output=True, text=True, timeout=10,
                          check=False)
    assert done.stdout.startswith("NOAUTH"), done.stdout


def test_s77_errors_of_functions_hold_no_bytes_of_tenants(stack):
    name = eventually(lambda: re.search(r"p1[0-9a-f]{8}_\w*submit", stack.redis.cli("FUNCTION", "LIST")), 5).group(0)
    answer = stack.redis.as_role("broker", "FCALL", name, 1, "{0}:j:x", CANARY["prompt"], "\r\n+INJECTED")
    assert CANARY["prompt"] not in answer and "INJECTED" not in answer, answer


def test_s71_secrets_are_in_no_log_metric_or_argument(stack):
    texts = {path.name: path.read_bytes() for path in stack.folder.glob("*.log")}
    texts["metrics"] = http_call(stack.metrics_origin, "GET", "/metrics")[2]
    texts["config"] = stack.cli("doctor", "--json", "--config", stack.ops_path, check=False).stdout.encode()
    for program in PROGRAMS[:2]:
        texts[f"{program} --print-config"] = subprocess.run(
            [BIN / program, "--config", stack.config_path(), "--print-config"], capture_output=True, timeout=60, check=True,
            env={**clean_environment(), "CANARY_KEY": CANARY["upstream"]}).stdout
    for name, pid in processes(stack).items():
        texts[f"arguments of {name}"] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    for path in ("/v1/jobs", "/v1/workers", "/v1/upstreams", "/v1/stats", "/readyz"):
        texts[path] = http_call(stack.origin, "GET", path)[2]
    assert len(texts) > 10 and all(texts[name] for name in ("broker.log", "worker0.log", "metrics"))
    for name, text in texts.items():
        for secret, value in CANARY.items():
            assert value.encode() not in text, f"{secret} in {name}"


def test_s72_environment_holds_only_the_upstream_key(stack):
    """Keys of upstreams are given by a variable (design), which only root and ourselves can read; nothing else is there."""
    for name, pid in processes(stack).items():
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        for secret in ("prompt", *ROLES):
            assert CANARY[secret].encode() not in environment, (secret, name)
        assert pathlib.Path(f"/proc/{pid}/environ").stat().st_uid == 0


def test_s74_descriptors(stack):
    listening = {line.split()[9] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
                 if line.split()[3] == "0A"}
    for name, pid in processes(stack).items():
        targets = [os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
        listeners = [target for target in targets if target.startswith("socket:[") and target[8:-1] in listening]
        assert bool(listeners) == name.startswith("broker"), (name, targets)
        files = [target for target in targets if target.startswith("/") and not target.startswith(("/dev/null", "/memfd:"))]
        # A supervisor keeps the program that its children run.
        files = [target for target in files if "child" in name or not target.endswith("-child")]
        assert all(target.endswith(".log") for target in files), (name, files)


def test_s73_children_start_no_program(stack):
    for name, pid in processes(stack).items():
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        sealed = status["NoNewPrivs"], status["Seccomp"]
        is_sealed = "child" in name and not IS_SANITIZED  # reports of sanitizers want a symbolizer
        assert sealed == (("1", "2") if is_sealed else ("0", "0")), name


def test_s79_binaries_are_hardened():
    for program in PROGRAMS:
        def readelf(flag, path=BIN / program):
            return subprocess.run(["readelf", "-W", flag, path], capture_output=True, text=True, timeout=60, check=True).stdout
        assert re.search(r"Type:\s+DYN", readelf("-h")) and "PIE" in readelf("-d"), program
        segments, dynamic, symbols = readelf("-l"), readelf("-d"), readelf("--dyn-syms")
        assert "GNU_RELRO" in segments and "NOW" in dynamic and "TEXTREL" not in dynamic, program
        assert re.search(r"GNU_STACK.* RW ", segments) and not re.search(r"LOAD.* RWE ", segments), program
        assert "RPATH" not in dynamic and "RUNPATH" not in dynamic, program
        assert "__stack_chk_fail" in symbols, program
        if not IS_SANITIZED:
            assert re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail@", "")), program
        if os.uname().machine == "x86_64":  # Debian's start files have no mark, so the whole binary gets none: its code is
            assert (BIN / program).read_bytes().count(b"\xf3\x0f\x1e\xfa") > 50, program  # marked: endbr64


def test_s84_health_tells_strangers_nothing(stack):
    for path, body in (("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})):
        status, headers, data = http_call(stack.origin, "GET", path)
        assert status == 200 and json.loads(data) == body
        assert set(headers) <= {"date", "content-type", "content-length", "x-request-id", "connection"}, headers


def test_s78_units_are_hardened(capsys):
    units = sorted((ROOT / "deploy/systemd").glob("*.service"))
    wanted = """NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes
        ProtectKernelTunables=yes ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectClock=yes
        ProtectHostname=yes ProtectProc=invisible ProcSubset=pid RestrictNamespaces=yes RestrictRealtime=yes
        RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes SystemCallFilter=@system-service
        CapabilityBoundingSet= UMask=0077 LimitCORE=0""".split()
    assert len(units) == 2
    for unit in units:
        lines = unit.read_text().splitlines()
        assert [line for line in wanted if line not in lines] == [], unit.name
    analyze = shutil.which("systemd-analyze")
    with capsys.disabled():
        if not analyze:
            print("\nS78: no systemd-analyze here: the settings were compared with the row's list, the score was not taken")
            return
        for unit in units:
            done = subprocess.run([analyze, "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True,
                                  timeout=60, check=False)
            score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
            assert score and float(score.group(1)) <= 2.0, done.stdout[-1500:] + done.stderr
            print(f"\nS78: {unit.name}: exposure {score.group(1)}")


def test_s70_crashes_leave_no_core(stack):
    """The last test here: every kind of process crashes. Children come back; parents are told apart from a core."""
    before = {path.name for folder in (pathlib.Path.cwd(), stack.folder) for path in folder.glob("*core*")}
    deadly = signal.SIGABRT if IS_SANITIZED else signal.SIGSEGV
    for name, pid in processes(stack).items():
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0\s", limits), (name, limits)
    for parent in (stack.broker, stack.worker):
        victim = parent.children()[0]
        os.kill(victim, deadly)
        eventually(lambda p=parent, v=victim: v not in p.children() and len(p.children()) == 2, 15, "the child is replaced")
    api = stack.api()

    def accepted():  # each child finds its own way back to Redis
        status, _, data = api.request("POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "body": chat()})
        return status == 202 and json.loads(data)["id"]
    assert api.finish(eventually(accepted, 10, "jobs are taken again"))["status"] == "succeeded"
    api.close()
    for parent in (stack.worker, stack.broker):
        os.kill(parent.pid, deadly)
        _, status = os.waitpid(parent.pid, 0)
        assert os.WIFSIGNALED(status) and not os.WCOREDUMP(status), (parent.name, status)
        parent.popen.returncode = -os.WTERMSIG(status)
    after = {path.name for folder in (pathlib.Path.cwd(), stack.folder) for path in folder.glob("*core*")}
    assert after == before
