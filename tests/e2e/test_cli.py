"""The command line client against a running stack: one job at a time, views, keys, doctor, help."""

import json
import os
import pathlib
import pty
import re
import subprocess

import pytest

from tests.harness.stack import BIN, ROOT, SLOW, Stack, clean_environment, eventually, free_port

COMMANDS = ["up", "submit", "bulk", "get", "result", "watch", "wait", "cancel", "retry", "ls", "queues", "workers", "top",
            "keys", "doctor", "version", "help"]


def body(user="x", **more):
    """A request body as text; `user` steers the simulator."""
    return json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": "hello"}], "user": user, **more})


def submit(stack, user, *options):
    return stack.cli("submit", "-f", "-", *options, stdin=body(user)).stdout.strip()


def penstock(*args, env=None, cwd=None, stdin=None):
    return subprocess.run([str(BIN / "penstock"), *map(str, args)], capture_output=True, text=True, check=False, input=stdin,
                          timeout=60 * SLOW, env={**clean_environment(), **(env or {})}, cwd=cwd)


def on_terminal(args, env, cwd=None):
    """Runs with standard output and error on a terminal of their own; exit status and everything written."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen([str(BIN / "penstock"), *map(str, args)], stdin=subprocess.DEVNULL, stdout=secondary,
                               stderr=secondary, env=env, cwd=cwd)
    os.close(secondary)
    text = b""
    while True:
        try:
            piece = os.read(primary, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(primary)
    return process.wait(60 * SLOW), text.decode(errors="replace")


# ---- one job ---------------------------------------------------------------------------------------------------------


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
    path = tmp_path / "body.json"
    path.write_text('{"model": "sim-model", "input": ["a", "b"]}')
    done = stack.cli("submit", "--endpoint", "embeddings", "-f", path, "--wait", "--metadata", "k=v")
    assert len(json.loads(done.stdout)["data"]) == 2
    path.write_text('{"model": "sim-model"}, "priority": "high"')
    done = stack.cli("submit", "-f", path, check=False)
    assert done.returncode == 2 and "byte 22" in done.stderr
    assert stack.cli("submit", "-f", tmp_path / "none", check=False).returncode == 2
    assert stack.cli("submit", "-m", "sim-model", "-f", path, check=False).returncode == 2


def test_options_reach_the_job(stack):
    job = submit(stack, "sim:delay_ms=0", "--priority", "high", "--delay", "1h", "--expires", "2h", "--max-attempts", "3",
                 "--metadata", "team=a=b", "--metadata", "n=2")
    shown = json.loads(stack.cli("get", job, "--json").stdout)
    assert shown["status"] == "scheduled" and shown["priority"] == "high" and shown["max_attempts"] == 3
    assert shown["metadata"] == {"team": "a=b", "n": "2"}
    assert shown["expires_at"] - shown["created_at"] == pytest.approx(7200, abs=2)
    assert stack.cli("cancel", job).returncode == 0


def test_same_key_same_job(stack):
    first = stack.cli("submit", "-m", "sim-model", "text", "--idempotency-key", "cli-key").stdout
    assert stack.cli("submit", "-m", "sim-model", "text", "-k", "cli-key").stdout == first
    other = stack.cli("submit", "-m", "sim-model", "other text", "-k", "cli-key", check=False)
    assert other.returncode == 1 and "idempotency_mismatch" in other.stderr


def test_exit_codes(stack):
    assert stack.cli("get", "job_" + "0" * 34, check=False).returncode == 4
    assert stack.cli("get", "../../etc/passwd", check=False).returncode == 4
    assert stack.cli("nonsense", check=False).returncode == 2
    assert stack.cli(check=False).returncode == 2
    assert stack.cli("get", check=False).returncode == 2
    assert stack.cli("ls", "--nonsense", check=False).returncode == 2
    assert stack.cli("ls", "--url", check=False).returncode == 2
    assert stack.cli("wait", submit(stack, "sim:status=400"), check=False).returncode == 1
    slow = submit(stack, "sim:delay_ms=60000")
    assert stack.cli("wait", slow, "--timeout", "200ms", check=False).returncode == 5
    assert stack.cli("result", slow, check=False).returncode == 1
    assert stack.cli("cancel", slow).returncode == 0
    assert stack.cli("wait", slow, "job_" + "0" * 34, check=False).returncode == 4
    assert stack.cli("result", slow, check=False).returncode == 1
    again = json.loads(stack.cli("retry", slow, "--json").stdout)
    assert again["retry_of"] == slow and stack.cli("cancel", again["id"]).returncode == 0
    away = {"PENSTOCK_URL": f"http://127.0.0.1:{free_port()}"}
    assert stack.cli("cancel", slow, check=False, env=away).returncode == 3
    assert stack.cli("ls", check=False, env={"PENSTOCK_URL": "ftp://x"}).returncode == 2


def test_waits_through_a_failure(stack):
    done = stack.cli("submit", "-f", "-", "--wait", stdin=body("sim:status=400"), check=False)
    assert done.returncode == 1 and done.stdout == "" and "upstream_rejected" in done.stderr


def test_wait_for_a_deleted_job():
    with Stack() as stack:
        job = submit(stack, "x", "--delay", "1h")
        assert stack.cli("wait", job, "-t", "100ms", check=False).returncode == 5
        core = job.removeprefix("job_")
        assert sum(int(stack.redis.cli("DEL", f"{{{shard}}}:j:{core}")) for shard in range(4)) == 1
        assert stack.cli("wait", job, check=False).returncode == 4


def test_watch_follows_to_the_end(stack):
    job = submit(stack, "sim:delay_ms=300")
    lines = [json.loads(line) for line in stack.cli("watch", job, "--json").stdout.splitlines() if line]
    assert [line["status"] for line in lines][-1] == "succeeded" and len(lines) >= 2
    assert stack.cli("watch", submit(stack, "sim:status=400"), check=False).returncode == 1
    assert stack.cli("watch", "job_" + "0" * 34, check=False).returncode == 4


def test_waiting_outlives_the_broker():
    with Stack() as stack:
        job = submit(stack, "sim:delay_ms=2500")
        env = {**clean_environment(), "PENSTOCK_URL": stack.origin}
        waiting = [subprocess.Popen([str(BIN / "penstock"), verb, job], env=env, stdout=subprocess.PIPE, text=True)
                   for verb in ("wait", "watch")]
        eventually(lambda: stack.api().job(job)["status"] == "running", 10, "the job runs")
        stack.broker.stop()
        stack.start_broker()
        for process in waiting:
            assert "succeeded" in process.communicate(timeout=60 * SLOW)[0] and process.returncode == 0


def test_large_result_streams_through(stack):
    job = submit(stack, "sim:body_bytes=5000000")
    stack.cli("wait", job)
    assert len(json.loads(stack.cli("result", job).stdout)["choices"]) == 1


# ---- many jobs -------------------------------------------------------------------------------------------------------


def test_ls_filters_and_pages(stack):
    ids = [submit(stack, "x", "--delay", "1h", "--endpoint", "chat") for _ in range(3)]
    listed = stack.cli("ls", "--status", "scheduled", "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == ids[:0:-1]
    assert stack.cli("ls", "--model", "no-such-model").stdout == ""
    assert stack.cli("ls", "--status", "strange", check=False).returncode == 1
    assert len(stack.cli("ls", "--limit", "150", "--json").stdout.splitlines()) > 3
    assert len(stack.cli("cancel", *ids).stdout.splitlines()) >= 3


def test_fleet_views(stack):
    stack.cli("submit", "-m", "sim-model", "hello", "--wait")
    eventually(lambda: "sim-model" in stack.cli("queues").stdout, 10, "the route is shown")
    eventually(lambda: stack.sim.name in stack.cli("workers").stdout, 10, "the worker is shown")
    assert json.loads(stack.cli("top", "--once", "--json").stdout)["workers"]["data"]
    assert "sim-model" in stack.cli("top", "--once").stdout
    stack.cli("queues", "pause", "sim/paused")
    job = stack.cli("submit", "-m", "sim/paused", "hello").stdout.strip()
    eventually(lambda: "paused" in stack.cli("queues").stdout, 10, "the pause is shown")
    assert stack.cli("wait", job, "-t", "300ms", check=False).returncode == 5
    stack.cli("queues", "resume", "sim/paused")
    stack.cli("cancel", job)
    assert stack.cli("queues", "stop", "sim-model", check=False).returncode == 2


def test_json_everywhere(stack, tmp_path):
    done = submit(stack, "sim:status=400")
    stack.cli("wait", done, check=False)
    keys = tmp_path / "keys.yaml"
    commands = [["submit", "-m", "sim-model", "hi"], ["get", done], ["retry", done], ["wait", done], ["ls"], ["queues"],
                ["queues", "pause", "sim-j"], ["queues", "resume", "sim-j"], ["workers"], ["top"], ["doctor"], ["version"],
                ["keys", "add", "t", "-f", keys], ["keys", "ls", "-f", keys]]
    for command in commands:
        out = stack.cli(*command, "--json", check=False).stdout
        assert out, command
        for line in out.splitlines():
            json.loads(line)


def test_terminal_only_manners(stack):
    job = submit(stack, "x")
    stack.cli("wait", job)
    env = {**clean_environment(), "PENSTOCK_URL": stack.origin}
    assert "\x1b[" not in stack.cli("get", job).stdout
    assert "\x1b[32msucceeded" in on_terminal(["get", job], env)[1]
    assert "\x1b[" not in on_terminal(["get", job], {**env, "NO_COLOR": "1"})[1]


def test_text_from_elsewhere_cannot_steer_the_terminal(stack):
    assert "no command ?[31mred" in stack.cli("\x1b[31mred", check=False).stderr


# ---- keys, doctor ----------------------------------------------------------------------------------------------------


def test_keys(tmp_path):
    path = tmp_path / "keys.yaml"
    assert penstock("keys", "ls", "-f", path).stdout == ""
    made = penstock("keys", "add", "team-a", "-f", path, "--weight", "5", "--jobs-max", "1k", "--expires", "30d")
    assert made.returncode == 0 and made.stdout.startswith("pk_")
    admin = json.loads(penstock("keys", "add", "ops", "--admin", "-f", path, "--json").stdout)
    assert admin["role"] == "admin"
    assert admin["key"] not in path.read_text() and oct(path.stat().st_mode & 0o777) == "0o600"
    rows = [json.loads(line) for line in penstock("keys", "ls", "-f", path, "--json").stdout.splitlines()]
    rows = {row["tenant"]: row for row in rows}
    assert rows["team-a"]["weight"] == 5 and rows["team-a"]["jobs_max"] == 1024
    assert rows["team-a"]["expires_at"] and rows["ops"]["expires_at"] is None
    assert penstock("keys", "disable", admin["id"], "-f", path).returncode == 0
    assert "disabled" in penstock("keys", "ls", "-f", path).stdout
    assert penstock("keys", "enable", admin["id"], "-f", path).returncode == 0
    assert penstock("keys", "remove", admin["id"], "-f", path).returncode == 0
    assert penstock("keys", "remove", admin["id"], "-f", path).returncode == 4
    assert penstock("keys", "add", "bad tenant", "-f", path).returncode == 2
    assert penstock("keys", "add", "-f", path).returncode == 2
    assert penstock("keys", "ls", "-f", tmp_path).returncode == 2


def test_keys_added_side_by_side_are_all_there(tmp_path):
    path = tmp_path / "keys.yaml"
    adding = [subprocess.Popen([str(BIN / "penstock"), "keys", "add", f"t{i}", "-f", str(path), "--quiet"],
                               stdout=subprocess.DEVNULL, env=clean_environment()) for i in range(8)]
    assert [process.wait(60 * SLOW) for process in adding] == [0] * 8
    assert len(penstock("keys", "ls", "-f", path).stdout.splitlines()) == 8


def test_doctor_on_a_sound_stack(stack):
    stack.cli("submit", "-m", "sim-model", "hello", "--wait")
    eventually(lambda: "up for 1" in stack.cli("doctor", check=False).stdout, 10, "the worker is seen")
    done = stack.cli("doctor", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems, 0 warnings" in done.stdout


def test_doctor_finds_what_is_wrong(tmp_path):
    with Stack(config={"worker": {"drain_timeout_ms": 300}}) as stack:
        job = submit(stack, "sim:delay_ms=60000")
        eventually(lambda: stack.api().job(job)["status"] == "running", 10, "the job runs")
        assert stack.cli("doctor").returncode == 0
        core = job.removeprefix("job_")
        shard = next(shard for shard in range(4) if stack.redis.cli("EXISTS", f"{{{shard}}}:j:{core}") == "1")
        stack.redis.cli("DEL", f"{{{shard}}}:j:{core}")
        done = stack.cli("doctor", check=False)
        assert done.returncode == 1 and "lease_without_job" in done.stdout and job in done.stdout
        stack.redis.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        done = stack.cli("doctor", check=False)
        assert done.returncode == 1 and "noeviction" in done.stdout
        stack.redis.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        stack.wait_ready()
    bad = tmp_path / "bad.yaml"
    bad.write_text("surprise: 1\n")
    done = penstock("doctor", "--config", bad)
    assert done.returncode == 2 and "surprise" in done.stdout


def test_doctor_where_nothing_is_set_up(tmp_path):
    done = penstock("doctor", cwd=tmp_path, env={"PENSTOCK_URL": f"http://127.0.0.1:{free_port()}"})
    assert done.returncode == 0 and "not looked at" in done.stdout


def test_doctor_without_redis(tmp_path):
    done = penstock("doctor", cwd=tmp_path, env={"PENSTOCK_REDIS_URL": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 1 and "redis_unreachable" in done.stdout


# ---- help, man pages, completion -------------------------------------------------------------------------------------


def options_of(command):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", penstock("help", command).stdout))


def test_help_names_every_command():
    overview = penstock("--help")
    assert overview.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in overview.stdout
        assert penstock(command, "--help").stdout == penstock("help", command).stdout != ""
    assert penstock("help", "nonsense").returncode == 2
    assert penstock("--version").stdout == penstock("version").stdout


def test_man_page_and_completion_know_every_option():
    page = (ROOT / "docs/man/penstock.1").read_text().replace("\\-", "-")
    script = (ROOT / "deploy/completion/penstock").read_text()
    for command in COMMANDS:
        assert re.search(rf"^\.It Cm {command}\b", page, re.M), command
        for option in options_of(command):
            assert f"Fl -{option[2:]}" in page, (command, option)
            assert option in script, (command, option)


def complete(line):
    """What bash offers behind this line."""
    words = line.split(" ")
    code = (f"source {ROOT}/deploy/completion/penstock; COMP_WORDS=({' '.join(repr(w) for w in words)}); "
            f"COMP_CWORD={len(words) - 1}; COMP_LINE={line!r}; COMP_POINT={len(line)}; _penstock; printf '%s\\n' "
            '"${COMPREPLY[@]}"')
    env = {**clean_environment(), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, timeout=30, env=env)
    assert done.stderr == ""
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


def test_bash_completion(tmp_path):
    assert set(COMMANDS) <= set(complete("penstock "))
    assert complete("penstock sub") == ["submit"]
    assert "--ordered" in complete("penstock bulk --") and "--simulate" not in complete("penstock bulk --")
    assert complete("penstock ls --status suc") == ["succeeded"]
    assert complete("penstock submit --priority ") == ["high", "normal", "low"]
    assert "chat" in complete("penstock submit -e ")
    assert "pause" in complete("penstock --json queues ")
    assert "disable" in complete("penstock keys ")
    assert "wait" in complete("penstock help w")


def test_man_page_knows_every_key():
    page = (ROOT / "docs/man/penstock.yaml.5").read_text()
    sample, section = (ROOT / "deploy/penstock.yaml").read_text(), {}
    for indent, dash, key, rest in re.findall(r"^( *)(- )?([a-z_0-9]+):(.*)$", sample, re.M):
        depth = len(indent) + len(dash)
        section = {at: name for at, name in section.items() if at < depth} | {depth: key}
        names = [name for _, name in sorted(section.items()) if name != "upstreams"]
        if names and (rest.split("#")[0].strip() or key == "models") and names[0] != "log":
            assert f".It Va {'.'.join(names)}" in page, names


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs/man").glob("*.[1-8]")))
def test_man_pages_have_no_warnings(page):
    done = subprocess.run(["groff", "-ww", "-mdoc", "-Tascii", "-P-c", str(ROOT / "docs/man" / page)], capture_output=True,
                          text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout) > 1000
    assert pathlib.Path(page).stem in re.sub(".\x08", "", done.stdout)
