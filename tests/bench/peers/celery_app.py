"""The Celery side of the benchmark. celery_app.py ORIGIN COUNT: the rate of tasks that make one HTTP call; celery_app.py pickup COUNT: the
time from before a task is sent to its first line, one at a time after a rest of 5 ms."""

import json
import os
import subprocess
import sys
import time

import requests
from celery import Celery

SOCKET = os.environ.get("BENCH_SOCKET", "")
app = Celery("celery_app", broker=f"redis+socket://{SOCKET}?virtual_host=1", backend=f"redis+socket://{SOCKET}?virtual_host=2")
app.conf.update(task_ignore_result=False, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
session = requests.Session()


@app.task
def call(origin, body):
    answer = session.post(f"{origin}/v1/chat/completions", data=body, headers={"Content-Type": "application/json"})
    answer.raise_for_status()
    return answer.text


@app.task
def arrive(_body):
    return time.monotonic_ns()


def rate(origin, body, count):
    call.delay(origin, body).get(timeout=60)
    begin = time.monotonic()
    results = [call.delay(origin, body) for _ in range(count)]
    for result in results:
        result.get(timeout=120)
    return {"rate": count / (time.monotonic() - begin)}


def pickup(body, count):
    times = []
    for n in range(-20, count):
        time.sleep(0.005)
        begin = time.monotonic_ns()
        arrived = arrive.delay(body).get(timeout=60)
        if n >= 0:  # the first ones find everything cold
            times.append((arrived - begin) / 1e6)
    times.sort()
    return {"p50_ms": times[count // 2], "p99_ms": times[min(count - 1, count * 99 // 100)]}


def main():
    origin, count = sys.argv[1], int(sys.argv[2])
    body = json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": "x" * 800}]})
    worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "4", "-l", "ERROR"],
                              cwd=os.path.dirname(os.path.abspath(__file__)), stdout=subprocess.DEVNULL)
    try:
        print(json.dumps(pickup(body, count) if origin == "pickup" else rate(origin, body, count)))
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
