"""The Celery side of the benchmark: one task that makes one HTTP call. celery_app.py SOCKET ORIGIN COUNT runs it."""

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


def main():
    origin, count = sys.argv[1], int(sys.argv[2])
    body = json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": "x" * 800}]})
    worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "4", "-l", "ERROR"],
                              cwd=os.path.dirname(os.path.abspath(__file__)), stdout=subprocess.DEVNULL)
    try:
        call.delay(origin, body).get(timeout=60)
        begin = time.monotonic()
        results = [call.delay(origin, body) for _ in range(count)]
        for result in results:
            result.get(timeout=120)
        print(json.dumps({"rate": count / (time.monotonic() - begin)}))
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
