"""The command line client against a running stack, and `penstock up` by itself."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import pytest

from tests.harness.stack import BIN, ROOT, SLOW, Stack, clean_environment, eventually, http_call

EXAMPLES = ROOT / "docs" / "examples"


def test_submit_wait_result(stack):
    job = stack.cli("submit", "-m", "sim-model", "hello").stdout.strip()
    assert job.startswith("job_")
    assert stack.cli("wait", job, "--timeout", "60s").returncode == 0
    shown = json.loads(stack.cli("get", job, "--json").stdout)
    assert shown["id"] == job and shown["status"] == "succeeded"
    assert json.loads(stack.cli("result", job).stdout)["object"] == "chat.completion"
    assert json.loads(stack.cli("submit", "-m", "sim-model", "hello", "--wait").stdout)["choices"]
    assert job in stack.cli("ls", "--limit", "1000").stdout


def test_body_from_standard_input_and_file(stack, tmp_path):
    assert stack.cli("submit", "-m", "sim-model", stdin="from a pipe").stdout.startswith("job_")
    body = tmp_path / "body.json"
    body.write_text('{"model": "sim-model", "input": ["a", "b"]}')
    done = stack.cli("submit", "--endpoint", "embeddings", "-f", body, "--wait", "--metadata", "k=v")
    assert len(json.loads(done.stdout)["data"]) == 2


def test_exit_codes(stack):
    assert stack.cli("get", "job_" + "0" * 34, check=False).returncode == 4
    assert stack.cli("get", "../../etc/passwd", check=False).returncode == 4
    assert stack.cli("nonsense", check=False).returncode == 2
    assert stack.cli("get", check=False).returncode == 2
    failed = stack.cli("submit", "-f", "-", stdin='{"model": "sim-model", "messages": [], "user": "sim:status=400"}')
    assert stack.cli("wait", failed.stdout.strip(), check=False).returncode == 1
    slow = stack.cli("submit", "-f", "-", stdin='{"model": "sim-model", "messages": [], "user": "sim:delay_ms=60000"}')
    assert stack.cli("wait", slow.stdout.strip(), "--timeout", "200ms", check=False).returncode == 5
    assert stack.cli("cancel", slow.stdout.strip()).returncode == 0
    assert stack.cli("retry", slow.stdout.strip()).stdout.strip()
    assert stack.cli("version", check=False).returncode == 0
    assert stack.cli("queues", check=False, env={"PENSTOCK_URL": "http://127.0.0.1:1"}).returncode == 3


def test_watch_follows_to_the_end(stack):
    job = stack.cli("submit", "-f", "-", stdin='{"model": "sim-model", "messages": [], "user": "sim:delay_ms=300"}')
    lines = [json.loads(line) for line in stack.cli("watch", job.stdout.strip(), "--json").stdout.splitlines() if line]
    assert [line["status"] for line in lines if "status" in line][-1] == "succeeded"


@pytest.mark.parametrize("name,count", [("generation", 15), ("embedding", 100)])
def test_bulk_of_the_examples(stack, tmp_path, name, count):
    out = tmp_path / "out.jsonl"
    done = stack.cli("bulk", EXAMPLES / f"{name}.jsonl", "--ordered", "-o", out, "--json")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, count + 1))
    assert all(row["status"] == "succeeded" and row["response"]["status_code"] == 200 for row in rows)
    summary = json.loads(done.stderr.splitlines()[-1])
    assert summary["succeeded"] == count and summary["failed"] == 0 and summary["jobs_per_second"] > 0


def test_bulk_counts_failures_and_keeps_the_rest(stack, tmp_path):
    lines = [{"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions",
              "body": {"model": "sim-model", "messages": [], "user": "sim:status=400" if i == 3 else "x"}} for i in range(20)]
    text = [json.dumps(line) for line in lines]
    text[5] = "{broken"
    text[7] = json.dumps({"custom_id": "c7", "url": "/v1/chat/completions", "body": {"messages": []}})
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(text) + "\n")
    done = stack.cli("bulk", source, "--ordered", "-o", out, check=False)
    assert done.returncode == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 21))
    states = [row["status"] for row in rows]
    assert states.count("succeeded") == 17 and states[3] == "failed"
    assert states[5] == states[7] == "refused" and rows[7]["error"]["message"]
    assert rows[0]["custom_id"] == "c0"


def test_bulk_again_with_the_same_key_adds_nothing(stack, tmp_path):
    before = len(stack.cli("ls", "--limit", "100000", "--json").stdout.splitlines())
    for name in ("one", "two"):
        stack.cli("bulk", EXAMPLES / "generation.jsonl", "-o", tmp_path / name, "--idempotency-key", "again")
    after = len(stack.cli("ls", "--limit", "100000", "--json").stdout.splitlines())
    assert after - before == 15


def test_fleet_views_and_doctor(stack):
    assert "sim-model" in stack.cli("queues").stdout
    assert stack.sim.name in stack.cli("workers").stdout
    assert json.loads(stack.cli("top", "--once", "--json").stdout)["workers"]["data"]
    stack.cli("queues", "pause", "sim-paused")
    stack.cli("queues", "resume", "sim-paused")
    done = stack.cli("doctor", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctor_finds_what_is_wrong(tmp_path):
    with Stack() as stack:
        job = stack.api().submit()["id"].removeprefix("job_")
        stack.api().finish("job_" + job)
        assert stack.cli("doctor").returncode == 0
        stack.redis.cli("ZADD", "{0}:L", 99999999999999, "1" + "0" * 34 + "1tenant" + "\0" * 6 + "x" * 16)
        done = stack.cli("doctor", check=False)
        assert done.returncode == 1 and "lease" in done.stdout
        stack.redis.cli("DEL", "{0}:L")
    bad = tmp_path / "bad.yaml"
    bad.write_text("surprise: 1\n")
    done = subprocess.run([str(BIN / "penstock"), "doctor", "--config", str(bad)], capture_output=True, text=True,
                          check=False, timeout=60, env=clean_environment())
    assert done.returncode == 2 and "surprise" in done.stdout


def processes_of(folder):
    """Pids of all processes whose command line names the folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_up_starts_everything_and_leaves_nothing(tmp_path):
    data = tmp_path / "data"
    up = subprocess.Popen([str(BIN / "penstock"), "up", "--data-dir", str(data), "--port", "0", "--simulate", "--json",
                           "--sim-delay-ms", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=clean_environment(), cwd=tmp_path)
    try:
        hello = json.loads(up.stdout.readline())
        env = {**clean_environment(), "PENSTOCK_URL": hello["url"], "PENSTOCK_API_KEY": hello["api_key"]}
        assert http_call(hello["url"], "GET", "/v1/jobs")[0] == 401
        done = subprocess.run([str(BIN / "penstock"), "submit", "-m", hello["model"], "hello", "--wait"], env=env,
                              capture_output=True, text=True, timeout=60 * SLOW, check=False)
        assert done.returncode == 0 and json.loads(done.stdout)["choices"], done.stderr
        second = subprocess.run([str(BIN / "penstock"), "up", "--data-dir", str(data), "--port", "0"], env=env, cwd=tmp_path,
                                capture_output=True, text=True, timeout=60 * SLOW, check=False)
        assert second.returncode == 2 and "in use" in second.stderr
        up.send_signal(signal.SIGINT)
        assert up.wait(60 * SLOW) == 0, up.stderr.read()
        assert not processes_of(data)
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()
            eventually(lambda: not processes_of(data), 20, "children of a killed up are gone")
        up.stdout.close()
        up.stderr.close()


def test_up_killed_hard_leaves_nothing_either(tmp_path):
    data = tmp_path / "data"
    up = subprocess.Popen([str(BIN / "penstock"), "up", "--data-dir", str(data), "--port", "0", "--simulate", "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean_environment(), cwd=tmp_path)
    json.loads(up.stdout.readline())
    assert len(processes_of(data)) >= 3
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    up.stdout.close()
    eventually(lambda: not processes_of(data), 40, "no process is left")
