"""What was asked for, what was answered, what can be read afterwards, and the verdict on it.

The verdicts are those of the history checker:

  lost       accepted, but no record or no final state after the drain
  stuck      not final after the drain
  double     two different results were ever visible for one job
  phantom    rejected, yet a job with its nonce exists
  backwards  a poll went from final back to not final, or a job seen once was not found
  unexpected a job that nobody submitted, or two jobs for one idempotency key
  wrong      a result that does not belong to the job's own prompt
  extra      upstream executions beyond one a job (allowed; counted)
"""

import dataclasses
import hashlib
import http.client
import json
import random
import threading
import time

from tests.harness.stack import Api, chat, eventually

FINAL = {"succeeded", "failed", "cancelled", "expired"}


@dataclasses.dataclass
class Entry:
    nonce: str
    key: str | None
    outcome: str = "sent"  # accepted, rejected, unknown
    job_id: str | None = None
    seen_final: str | None = None
    result_digest: str | None = None
    problems: list = dataclasses.field(default_factory=list)


class Ledger:
    """Submits `count` jobs from several threads while the caller breaks things, polls at random, then checks."""

    def __init__(self, origin, count, delay_ms=20, threads=4, seed=1, key=None, rate=None, others=()):
        self.others = list(others)  # further brokers that submits and polls are shared with; the verdict is by origin
        self.origin, self.count, self.delay_ms, self.key = origin, count, delay_ms, key
        self.rate = rate  # submits a second in all; None: as fast as it goes
        self.entries = [Entry(f"n{seed}-{i}", f"key-{seed}-{i}" if i % 2 else None) for i in range(count)]
        self._threads, self._random = threads, random.Random(seed)
        self._stop = threading.Event()
        self._running = []
        self.accept_seconds = []

    # --- load ---------------------------------------------------------------------------------

    def start(self):
        for part in range(self._threads):
            thread = threading.Thread(target=self._submit_all, args=(part,), daemon=True)
            thread.start()
            self._running.append(thread)
        poller = threading.Thread(target=self._poll_all, daemon=True)
        poller.start()
        self._poller = poller
        return self

    def share_done(self):
        """How much of the load has been sent, 0 to 1."""
        return sum(entry.outcome != "sent" for entry in self.entries) / self.count

    def is_submitting(self):
        return any(thread.is_alive() for thread in self._running)

    def join(self, seconds=300):
        for thread in self._running:
            thread.join(seconds)
            assert not thread.is_alive(), "the load did not end in time"

    def _submit_all(self, part):
        origins = [self.origin, *self.others]
        api = Api(origins[part % len(origins)], self.key)
        begin = time.monotonic()
        for number, entry in enumerate(self.entries[part::self._threads]):
            if self.rate:
                time.sleep(max(0.0, begin + number * self._threads / self.rate - time.monotonic()))
            self._submit(api, entry)
        api.close()

    def _submit(self, api, entry):
        """Keyed submits are sent again until there is a clear answer; the others are sent once."""
        body = {"endpoint": "/v1/chat/completions", "metadata": {"nonce": entry.nonce}, "max_attempts": 20,
                "body": chat(f"prompt {entry.nonce}", user=f"sim:nonce={entry.nonce},delay_ms={self.delay_ms}")}
        headers = {"Idempotency-Key": entry.key} if entry.key else {}
        end = time.monotonic() + 120
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                status, answer_headers, data = api.request("POST", "/v1/jobs", body, headers, timeout=30)
            except (OSError, http.client.HTTPException):
                if entry.key is None:
                    entry.outcome = "unknown"
                    return
                time.sleep(self._random.uniform(0.005, 0.05))
                continue
            if status in (200, 202):
                entry.outcome, entry.job_id = "accepted", json.loads(data)["id"]
                self.accept_seconds.append(time.monotonic() - started)
                return
            answer = json.loads(data)
            is_unknown = "unknown" in str(answer.get("code", ""))
            entry.outcome = "unknown" if is_unknown else "rejected"
            if status not in (429, 503):
                entry.problems.append(f"submit answered {status}: {data[:300]}")
                return
            if entry.key is None:
                return
            time.sleep(min(float(answer_headers.get("retry-after", 1)), 0.2))
        entry.problems.append("no clear answer to a keyed submit within 120 s")

    # --- polls --------------------------------------------------------------------------------

    def _poll_all(self):
        apis = [Api(origin, self.key) for origin in (self.origin, *self.others)]
        while not self._stop.is_set():
            known = [entry for entry in self.entries if entry.job_id]
            if not known:
                time.sleep(0.01)
                continue
            entry = self._random.choice(known)
            try:
                self._look(self._random.choice(apis), entry)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
        for api in apis:
            api.close()

    def _look(self, api, entry):
        status, _, data = api.request("GET", f"/v1/jobs/{entry.job_id}", timeout=30)
        if status == 503:
            return None
        if status != 200:
            entry.problems.append(f"backwards: poll answered {status}")
            return None
        job = json.loads(data)
        if entry.seen_final and job["status"] != entry.seen_final:
            entry.problems.append(f"backwards: {entry.seen_final} became {job['status']}")
        if job["status"] in FINAL:
            entry.seen_final = job["status"]
            self._look_at_result(api, entry, job)
        return job

    def _look_at_result(self, api, entry, job):
        status, _, data = api.request("GET", f"/v1/jobs/{entry.job_id}/result", timeout=30)
        if status == 503:
            return
        if job["status"] == "succeeded" and status != 200:
            entry.problems.append(f"wrong: result of a succeeded job answered {status}")
            return
        if job["status"] == "succeeded" and entry.nonce.encode() not in data:
            entry.problems.append("wrong: a result of another prompt")
        digest = hashlib.sha256(data).hexdigest()
        if entry.result_digest not in (None, digest):
            entry.problems.append("double: two different results")
        entry.result_digest = digest

    # --- verdict ------------------------------------------------------------------------------

    def drain(self, seconds=180):
        """Waits until every accepted job is final; returns those that are not."""
        api = Api(self.origin, self.key)
        end = time.monotonic() + seconds
        left = [entry for entry in self.entries if entry.outcome == "accepted"]
        while left and time.monotonic() < end:
            still = []
            for at in range(0, len(left), 1000):
                part = left[at:at + 1000]
                status, _, data = api.request("POST", "/v1/jobs/query", {"ids": [e.job_id for e in part]})
                if status != 200:
                    still += part
                    continue
                states = {job["id"]: job["status"] for job in json.loads(data)["data"]}
                still += [entry for entry in part if states.get(entry.job_id) not in FINAL]
            left = still
            if left:
                time.sleep(0.05)
        self._stop.set()
        self._poller.join(60)
        api.close()
        return left

    def _listed(self, api):
        """Every job of the store that has the load's model, by nonce."""
        found, after = {}, None
        while True:
            query = "model=sim-model&limit=100" + (f"&after={after}" if after else "")
            page = api.json("GET", f"/v1/jobs?{query}", expect=200)
            for job in page["data"]:
                found.setdefault(job["metadata"].get("nonce"), []).append(job)
            if not page["has_more"]:
                return found
            after = page["next_after"]

    def verdict(self, executions, may_fail=False):
        """executions: nonce -> number of upstream calls. Returns counts and a list of what is wrong."""
        api = Api(self.origin, self.key)
        # Each broker child finds its own way back; this connection stays with the one that took it.
        eventually(lambda: api.request("GET", "/readyz")[0] == 200, 30, "the child that is asked is ready")
        counts = dict.fromkeys(("lost", "stuck", "double", "phantom", "backwards", "unexpected", "wrong", "extra"), 0)
        wrong = []

        def note(kind, entry, text):
            counts[kind] += 1
            wrong.append(f"{kind}: {entry.nonce} {entry.job_id}: {text}")

        listed = self._listed(api)
        for entry in self.entries:
            jobs = listed.pop(entry.nonce, [])
            if entry.outcome == "accepted":
                self._judge_accepted(api, entry, jobs, note, may_fail)
            elif entry.outcome == "rejected" and jobs:
                note("phantom", entry, "rejected, yet there")
            if len(jobs) > 1:
                note("unexpected", entry, f"{len(jobs)} jobs")
            for problem in entry.problems:
                kind = problem.split(":")[0]
                note(kind if kind in counts else "wrong", entry, problem)
            counts["extra"] += max(0, executions.get(entry.nonce, 0) - 1)
        for nonce, jobs in listed.items():
            counts["unexpected"] += len(jobs)
            wrong.append(f"unexpected: {nonce}")
        counts["accepted"] = sum(entry.outcome == "accepted" for entry in self.entries)
        counts["unknown"] = sum(entry.outcome == "unknown" for entry in self.entries)
        counts["rejected"] = sum(entry.outcome == "rejected" for entry in self.entries)
        api.close()
        return counts, wrong

    def _judge_accepted(self, api, entry, jobs, note, may_fail):
        if not jobs:
            note("lost", entry, "not in the list")
            return
        job = self._look(api, entry)
        if job is None:
            note("lost", entry, "no record")
        elif job["status"] not in FINAL:
            note("stuck", entry, job["status"])
        elif job["status"] != "succeeded" and not may_fail:
            note("wrong", entry, f"{job['status']}: {job['error']}")
        elif job["status"] == "succeeded" and job["metadata"] != {"nonce": entry.nonce}:
            note("wrong", entry, "metadata of another job")
