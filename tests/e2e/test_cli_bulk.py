"""penstock bulk: files of jobs in, files of results out, whatever happens on the way."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.e2e.test_cli import on_terminal
from tests.harness.stack import BIN, IS_SANITIZED, ROOT, SLOW, Stack, clean_environment, eventually

EXAMPLES = ROOT / "docs" / "examples"
MESSAGES = [{"role": "user", "content": "hello"}]


def line(number, user="x", **more):
    """A line of a batch file; `user` steers the simulator."""
    return json.dumps({"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions",
                       "body": {"model": "sim-model", "messages": MESSAGES, "user": user}, **more})


def rows_of(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def start(stack, *args, **more):
    env = {**clean_environment(), "PENSTOCK_URL": stack.origin}
    return subprocess.Popen([str(BIN / "penstock"), "bulk", *map(str, args)], env=env, text=True, cwd=stack.folder,
                            stderr=subprocess.PIPE, **more)


def count_jobs(stack):
    return len(stack.cli("ls", "--limit", "100000", "--json").stdout.splitlines())


@pytest.mark.parametrize("name,count", [("generation", 15), ("embedding", 100)])
def test_the_examples(stack, tmp_path, name, count):
    out = tmp_path / "out.jsonl"
    done = stack.cli("bulk", EXAMPLES / f"{name}.jsonl", "--ordered", "-o", out, "--json")
    rows = rows_of(out)
    assert [row["line"] for row in rows] == list(range(1, count + 1))
    assert all(row["status"] == "succeeded" and row["response"]["status_code"] == 200 for row in rows)
    summary = json.loads(done.stderr.splitlines()[-1])
    assert summary["succeeded"] == count and summary["failed"] == 0 and summary["jobs_per_second"] > 0


def test_rows_written_ahead_of_the_oldest(stack, tmp_path):
    """The second thousand ends first and is written; then the first thousand ends between two looks."""
    stack.cli("queues", "pause", "sim-first")
    rows = [json.loads(line(number)) for number in range(2000)]
    for row in rows[:1000]:
        row["body"]["model"] = "sim-first"
    source, out = write_lines(tmp_path / "in.jsonl", map(json.dumps, rows)), tmp_path / "out.jsonl"
    bulk = start(stack, source, "-o", out)
    eventually(lambda: out.exists() and out.read_bytes().count(b"\n") > 900, 20, "the second thousand is being written")
    os.kill(bulk.pid, signal.SIGSTOP)
    stack.cli("queues", "resume", "sim-first")
    eventually(lambda: sum(int(stack.redis.cli("HGET", f"{{{shard}}}:c:sim-first", "succeeded") or 0) for shard in range(4)) == 1000,
               20, "the first thousand has ended")
    os.kill(bulk.pid, signal.SIGCONT)
    assert bulk.wait(30 * SLOW) == 0, bulk.stderr.read()
    assert sorted(row["line"] for row in rows_of(out)) == list(range(1, 2001))


def test_failures_are_counted_and_spoil_nothing(stack, tmp_path):
    text = [line(i, "sim:status=400" if i == 3 else "x") for i in range(20)]
    text[5] = "{broken"
    text[7] = json.dumps({"custom_id": "c7", "url": "/v1/chat/completions", "body": {"messages": []}})
    text[8] = line(8, priority="high")
    source, out = write_lines(tmp_path / "in.jsonl", text), tmp_path / "out.jsonl"
    done = stack.cli("bulk", source, "--ordered", "-o", out, check=False)
    assert done.returncode == 1
    rows = rows_of(out)
    assert [row["line"] for row in rows] == list(range(1, 21))
    states = [row["status"] for row in rows]
    assert states.count("succeeded") == 16 and states[3] == "failed" and rows[3]["error"]
    assert states[5] == states[7] == states[8] == "refused" and rows[7]["error"]["message"]
    assert "priority" in rows[8]["error"]["message"]
    assert rows[0]["custom_id"] == "c0" and rows[7]["custom_id"] == "c7"
    # The same without an order: the same rows.
    assert stack.cli("bulk", source, "-o", out, check=False).returncode == 1
    assert sorted(row["line"] for row in rows_of(out)) == list(range(1, 21))


def test_line_ends_blank_lines_and_marks(stack, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + line(1).encode() + b"\r\n\r\n  \t\r\n" + line(4).encode() + b"\n\n\n" +
                       b"  " + line(7).encode() + b"  ")
    stack.cli("bulk", source, "--ordered", "-o", out)
    assert [(row["line"], row["custom_id"]) for row in rows_of(out)] == [(1, "c1"), (4, "c4"), (7, "c7")]
    source.write_text("")
    assert stack.cli("bulk", source, "-o", out).returncode == 0 and out.read_text() == ""


def test_lines_of_the_native_api(stack, tmp_path):
    job = {"endpoint": "/v1/embeddings", "body": {"model": "sim-model", "input": ["a", "b"]}, "metadata": {"k": "v"},
           "priority": "high"}
    source, out = write_lines(tmp_path / "in.jsonl", [json.dumps(job)]), tmp_path / "out.jsonl"
    stack.cli("bulk", source, "-o", out, "--priority", "low")
    row = rows_of(out)[0]
    assert len(row["response"]["body"]["data"]) == 2
    shown = json.loads(stack.cli("get", row["id"], "--json").stdout)
    assert shown["priority"] == "high" and shown["metadata"] == {"k": "v"}


def test_the_same_key_adds_nothing(stack, tmp_path):
    before = count_jobs(stack)
    for name in ("one", "two"):
        stack.cli("bulk", EXAMPLES / "generation.jsonl", "-o", tmp_path / name, "--idempotency-key", "again")
    assert count_jobs(stack) - before == 15
    # A broken line that is mended is added; the others are still known by their line.
    text = [line(i, "sim:nonce=mended") for i in range(5)]
    broken = write_lines(tmp_path / "in.jsonl", [*text[:2], "{", *text[3:]])
    assert stack.cli("bulk", broken, "-k", "mend", check=False).returncode == 1
    stack.cli("bulk", write_lines(broken, text), "-k", "mend")
    assert count_jobs(stack) - before == 20


def test_one_key_on_two_lines_is_one_job(stack, tmp_path):
    job = json.dumps({"endpoint": "/v1/chat/completions", "idempotency_key": "twin",
                      "body": {"model": "sim-model", "messages": MESSAGES}})
    source, out = write_lines(tmp_path / "in.jsonl", [job, line(2), job]), tmp_path / "out.jsonl"
    stack.cli("bulk", source, "--ordered", "-o", out, timeout=20)
    rows = rows_of(out)
    assert rows[0]["id"] == rows[2]["id"] != rows[1]["id"]
    assert rows[0]["response"] == rows[2]["response"]


def test_without_waiting(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(1), "{", line(3)])
    done = stack.cli("bulk", source, "--no-wait", check=False)
    ids = done.stdout.split()
    assert done.returncode == 1 and len(ids) == 2 and all(text.startswith("job_") for text in ids)
    assert "line 2" in done.stderr
    assert stack.cli("wait", *ids).returncode == 0
    rows = [json.loads(text) for text in stack.cli("bulk", source, "-n", "--json", check=False).stdout.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3] and rows[1]["error"]["code"] == "invalid_line"


def test_large_and_strange_results(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(1, "sim:body_bytes=6000000"), line(2, "sim:status=400,body_bytes=3000000"),
                                                 line(3)])
    out = tmp_path / "out.jsonl"
    assert stack.cli("bulk", source, "--ordered", "-o", out, check=False).returncode == 1
    rows = rows_of(out)
    assert len(json.dumps(rows[0]["response"]["body"])) > 5_000_000
    assert rows[1]["status"] == "failed" and rows[1]["error"]
    assert rows[2]["status"] == "succeeded"


def test_a_job_that_is_deleted_meanwhile(tmp_path):
    with Stack(config={"worker": {"drain_timeout_ms": 300}}) as stack:
        source = write_lines(tmp_path / "in.jsonl", [line(1), line(2, "sim:delay_ms=60000"), line(3)])
        out = tmp_path / "out.jsonl"
        process = start(stack, source, "--ordered", "-o", out)
        eventually(lambda: len(stack.cli("ls", "--status", "succeeded", "--json").stdout.splitlines()) == 2, 20, "two are done")
        running = eventually(lambda: stack.cli("ls", "--status", "running", "--json").stdout.splitlines() or None, 20, "it runs")
        core = json.loads(running[0])["id"].removeprefix("job_")
        assert sum(int(stack.redis.cli("DEL", f"{{{shard}}}:j:{core}")) for shard in range(4)) == 1
        assert "2 succeeded, 1 failed" in process.communicate(timeout=30 * SLOW)[1]
        assert process.returncode == 1
        assert [row["status"] for row in rows_of(out)] == ["succeeded", "gone", "succeeded"]


def test_a_pipe_that_is_still_written_to(stack, tmp_path):
    out = tmp_path / "out.jsonl"
    process = start(stack, "-", "-o", out, stdin=subprocess.PIPE)
    for number in range(1, 4):
        process.stdin.write(line(number) + "\n")
        process.stdin.flush()
        eventually(lambda: f'"custom_id": "c{number}"' in stack.cli("ls", "--json").stdout.replace('":"', '": "'), 20,
                   "the line has become a job")
    process.stdin.close()
    assert process.wait(60 * SLOW) == 0 and len(rows_of(out)) == 3
    process.stderr.close()


def test_interrupted_and_gone_on_with(stack, tmp_path):
    before = count_jobs(stack)
    source = write_lines(tmp_path / "in.jsonl", [line(i, "sim:delay_ms=1500") for i in range(20)])
    out = tmp_path / "out.jsonl"
    process = start(stack, source, "-o", out)
    eventually(lambda: count_jobs(stack) - before == 20, 20, "the lines are jobs")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=10 * SLOW)[1]
    assert process.returncode == 130 and "--idempotency-key bulk-" in said
    key = said.split("--idempotency-key ")[1].split(":")[0]
    stack.cli("bulk", source, "-o", out, "-k", key, "--ordered")
    assert len(rows_of(out)) == 20 and count_jobs(stack) - before == 20


def test_a_time_limit(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(1, "sim:delay_ms=60000"), line(2)])
    out = tmp_path / "out.jsonl"
    assert stack.cli("bulk", source, "-o", out, "-t", "1s", check=False).returncode == 5
    assert [row["line"] for row in rows_of(out)] == [2]
    stack.cli("cancel", *[json.loads(text)["id"] for text in stack.cli("ls", "--status", "running", "--json").stdout.splitlines()])


def test_brokers_that_come_and_go(tmp_path):
    with Stack() as stack:
        lines = [line(i, f"sim:nonce=b{i}") for i in range(6000)]
        source, out = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
        process = start(stack, source, "-o", out)
        def size():
            return out.stat().st_size if out.exists() else 0
        for _ in range(3):
            before = size()
            eventually(lambda: process.poll() is not None or size() > before, 30, "more is written")
            stack.broker.stop()
            stack.start_broker()
        assert process.wait(120 * SLOW) == 0, process.stderr.read()
        process.stderr.close()
        rows = rows_of(out)
        assert sorted(row["line"] for row in rows) == list(range(1, 6001))
        assert all(row["status"] == "succeeded" for row in rows)
        assert len(stack.cli("ls", "--limit", "100000", "--json").stdout.splitlines()) == 6000


def test_a_full_queue_is_waited_for(tmp_path):
    with Stack(config={"queue": {"jobs_max": 50}}) as stack:
        source = write_lines(tmp_path / "in.jsonl", [line(i, "sim:delay_ms=20") for i in range(300)])
        out = tmp_path / "out.jsonl"
        stack.cli("bulk", source, "--ordered", "-o", out)
        assert [row["status"] for row in rows_of(out)] == ["succeeded"] * 300


def test_files_that_cannot_be(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(1)])
    assert stack.cli("bulk", check=False).returncode == 2
    assert stack.cli("bulk", tmp_path / "none", check=False).returncode == 2
    assert stack.cli("bulk", source, "-o", tmp_path / "no" / "where", check=False).returncode == 2
    assert stack.cli("bulk", source, "-o", source, check=False).returncode == 2 and source.read_text() == line(1) + "\n"
    assert stack.cli("bulk", tmp_path, check=False).returncode == 2
    done = stack.cli("bulk", source, "-o", "/dev/full", check=False)
    assert done.returncode == 1 and "cannot write" in done.stderr


def test_a_progress_bar_on_terminals_only(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(i, f"sim:delay_ms={i * 20}") for i in range(30)])
    env = {**clean_environment(), "PENSTOCK_URL": stack.origin}
    args = ["bulk", source, "-o", tmp_path / "out.jsonl"]
    status, text = on_terminal(args, env)
    assert status == 0 and "bulk [" in text and "/30" in text and "30 succeeded" in text
    assert "\x1b" not in stack.cli(*args).stderr
    assert on_terminal([*args, "--quiet"], env)[1] == ""


def test_memory_stays_small(stack, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [line(i) for i in range(20000)])
    process = start(stack, source, "-n", "-o", tmp_path / "ids")
    peak = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
                peak = max(peak, int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE"))
        except (OSError, IndexError):
            break
        time.sleep(0.01)
    assert process.wait(120 * SLOW) == 0, process.stderr.read()
    process.stderr.close()
    assert len((tmp_path / "ids").read_text().split()) == 20000
    assert 0 < peak < (600 if IS_SANITIZED else 64) * 2**20  # freed memory stays with the sanitizer for a while
    for text in stack.cli("ls", "--status", "queued", "--limit", "1").stdout.splitlines():
        assert text
