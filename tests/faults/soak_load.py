"""The load of the soak and its ledger: every job is followed from its submit until it is judged, then forgotten.

A job is read twice, first when it has ended and again some seconds later, because a second outcome would show only then.
After that its record is taken out of Redis, as time would do a day later: an hour of load would otherwise need gigabytes. Once
a minute the store is searched for records that nobody was promised.
"""

import collections
import contextlib
import heapq
import http.client
import json
import random
import socket
import threading
import time

from tests.harness.stack import Api

KINDS = ("lost", "stuck", "double", "phantom", "backwards", "unexpected", "wrong")
BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
SECOND_LOOK_S = (10.0, 25.0)
KEYED_EACH = 10        # each so many batches carry an idempotency key and are sent again until the answer is clear
QUERIED_EACH = 8       # each so many batches are asked for by POST /v1/jobs/query too
DELETED_EACH = 16      # each so many batches are forgotten with DELETE first
PROBLEMS_MAX = 200
LINE = ('{{"endpoint":"/v1/chat/completions","max_attempts":20,"expires_in_ms":240000,"metadata":{{"nonce":"{0}"}},"body":'
        '{{"model":"sim-model","messages":[{{"role":"user","content":"prompt {0}"}}],"user":"sim:nonce={0},delay_ms={1}"}}}}\n')


def created_s(job_id):
    """When a job was made, by its id: 10 bits of shard, 42 of milliseconds."""
    number = 0
    for letter in job_id[4:15]:
        number = number * 32 + BASE32.index(letter)
    return (number >> 3 & (1 << 42) - 1) / 1000


def record_key(job_id):
    shard = BASE32.index(job_id[4]) << 5 | BASE32.index(job_id[5])
    return f"{{{shard}}}:j:{job_id[4:]}"


class Pipe:
    """Requests without a body, one behind the other on one connection, which is made anew when it broke."""

    def __init__(self, origin, seconds=30.0):
        host, port = origin.removeprefix("http://").rsplit(":", 1)
        self._address, self._seconds = (host, int(port)), seconds
        self._sock, self._buffer = None, b""

    def close(self):
        if self._sock is not None:
            self._sock.close()
        self._sock, self._buffer = None, b""

    def _connect(self):
        if self._sock is None:
            self._sock = socket.create_connection(self._address, timeout=self._seconds)
            self._buffer = b""

    def _answer(self):
        """(status, body, connection ends)."""
        if self._sock is None:
            raise ConnectionResetError
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._read()
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
        while len(self._buffer) < end + 4 + size:
            self._read()
        body, self._buffer = self._buffer[end + 4:end + 4 + size], self._buffer[end + 4 + size:]
        return int(head[9:12]), body, b"connection: close" in head

    def _read(self):
        piece = self._sock.recv(262144)
        if not piece:
            raise ConnectionResetError
        self._buffer += piece

    def send(self, paths, method):
        self._connect()
        self._sock.sendall("".join(f"{method} {path} HTTP/1.1\r\nHost: soak\r\n\r\n" for path in paths).encode())

    def receive(self, count):
        """[(status, body)] of what was sent: fewer than count when the connection ended. OSError when it broke."""
        answers = []
        while len(answers) < count:
            status, body, is_over = self._answer()
            answers.append((status, body))
            if is_over:
                self.close()
                break
        return answers


class Pipes:
    """Many connections: a broker answers one after the other on each, so one alone would wait for Redis each time."""

    def __init__(self, origin, count=32):
        self._pipes = [Pipe(origin) for _ in range(count)]

    def close(self):
        for pipe in self._pipes:
            pipe.close()

    def many(self, paths, method="GET"):
        """[(status, body)] of the paths; status 0 where connections broke three times."""
        answers = [(0, b"")] * len(paths)
        left = list(range(len(paths)))
        for _ in range(3):
            width = max(1, min(len(self._pipes), len(left) // 4))
            parts = [left[at::width] for at in range(width)]
            for pipe, part in zip(self._pipes, parts):
                try:
                    pipe.send([paths[index] for index in part], method)
                except OSError:
                    pipe.close()
            left = []
            for pipe, part in zip(self._pipes, parts):
                got = []
                try:
                    got = pipe.receive(len(part))
                except OSError:
                    pipe.close()
                for index, answer in zip(part, got):
                    answers[index] = answer
                left += part[len(got):]
            if not left:
                break
            time.sleep(0.05)
        return answers


class Store:
    """Plain commands straight to Redis. Every failure is an OSError: the caller comes back later."""

    def __init__(self, path):
        self._path, self._sock, self._file, self._refusal = str(path), None, None, None

    def close(self):
        for one in (self._file, self._sock):
            if one is not None:
                one.close()
        self._sock = self._file = None

    def command(self, *words):
        return self.commands([words])[0]

    def commands(self, lists):
        """The replies. One that is an error (Redis loads its file, is full, is busy) is an OSError too, once all have been read."""
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX)
                self._sock.settimeout(30)
                self._sock.connect(self._path)
                self._file = self._sock.makefile("rb")
            text = []
            for words in lists:
                text.append(b"*%d\r\n" % len(words))
                for word in words:
                    word = str(word).encode(errors="surrogateescape")
                    text.append(b"$%d\r\n%s\r\n" % (len(word), word))
            self._sock.sendall(b"".join(text))
            self._refusal = None
            replies = [self._reply() for _ in lists]
            if self._refusal:
                raise OSError(self._refusal)
            return replies
        except OSError:
            self.close()
            raise

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            self._refusal = rest.decode(errors="replace")
            return None
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return rest.decode()


class Batch:
    __slots__ = ("number", "ids", "digests", "judged", "is_second", "at")

    def __init__(self, number, ids):
        self.number, self.ids = number, ids      # ids: {index: id}
        self.digests, self.judged, self.is_second, self.at = {}, set(), False, time.monotonic()


class Load:
    """rate: jobs a second; None: as many as `live_max` unfinished ones allow, to find out what the machine carries."""

    def __init__(self, origin, socket_path, seed, rate=None, delay_ms=50, live_max=200_000, second_look_s=SECOND_LOOK_S):
        self.origin, self.socket_path, self.seed, self.rate, self.delay_ms = origin, socket_path, seed, rate, delay_ms
        self.live_max, self._second_look_s = live_max, second_look_s
        self.size = 100 if rate is None else max(1, min(100, round(rate / 20)))
        self.counts = collections.Counter(dict.fromkeys((*KINDS, "accepted", "rejected", "unknown", "ended", "forgotten",
                                                         "late_known"), 0))
        self.problems = []
        self.live = set()            # ids that were promised and are not judged yet
        self.trying = set()          # numbers of batches whose submit has no answer yet
        self.rejected, self.unknown = set(), set()   # nonces
        self.slowest_s = 0.0
        self._lock = threading.Lock()
        self._number, self._due, self._sequence = 0, [], 0
        self._stop_submits, self._stop = threading.Event(), threading.Event()
        self._threads, self._submitters = [], []
        self.sabotage = None         # for the proof that the verdict can fail

    # --- running ------------------------------------------------------------------------------------

    def start(self, submitters=2):
        for part in range(submitters):
            self._submitters.append(self._thread(self._submit_all, part, submitters))
        self._threads = [self._thread(self._check_all), self._thread(self._sweep_all)]
        return self

    def _thread(self, target, *args):
        thread = threading.Thread(target=self._guarded, args=(target, *args), daemon=True)
        thread.start()
        return thread

    def _guarded(self, target, *args):
        try:
            target(*args)
        except Exception as error:  # a thread that dies must not look like silence
            self.note("wrong", f"the soak's own {target.__name__} ended: {error!r}")

    def stop_submits(self):
        self._stop_submits.set()
        for thread in self._submitters:
            thread.join(180)

    def drain(self, seconds):
        """Until every promise has been judged; what is left then is stuck."""
        end = time.monotonic() + seconds
        while self.live and time.monotonic() < end:
            time.sleep(0.1)
        for job_id in list(self.live)[:PROBLEMS_MAX]:
            self.note("stuck", f"{job_id} had no outcome {seconds:g} s after the last submit")
        self.counts["stuck"] = len(self.live)
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if not self.counts["stuck"]:
            store, api = Store(self.socket_path), Api(self.origin)
            if not any(self._try_sweep(store, api, age_s=0) for _ in range(3)):
                self.note("wrong", "the store could not be searched at the end")

    def note(self, kind, text):
        with self._lock:
            self.counts[kind] += 1
            if len(self.problems) < PROBLEMS_MAX:
                self.problems.append(f"{kind}: {text}")

    def nonce(self, number, index):
        return f"s{self.seed}-{number}-{index}"

    # --- submits ------------------------------------------------------------------------------------

    def _submit_all(self, part, parts):
        api, chooser = Api(self.origin), random.Random(self.seed * 100 + part)
        next_at = time.monotonic()
        while not self._stop_submits.is_set():
            if len(self.live) >= self.live_max:
                time.sleep(0.002)
                continue
            if self.rate:
                next_at = max(next_at + self.size * parts / self.rate, time.monotonic() - 1.0)
                time.sleep(max(0.0, next_at - time.monotonic()))
            with self._lock:
                number, self._number = self._number, self._number + 1
                self.trying.add(number)
            is_refused = self._submit(api, number, chooser)
            self.trying.discard(number)
            if is_refused:
                self._stop_submits.wait(chooser.uniform(0.1, 0.4))
        api.close()

    def _submit(self, api, number, chooser):
        """One batch; True when it was refused, so that the client waits a little."""
        text = "".join(LINE.format(self.nonce(number, index), self.delay_ms) for index in range(self.size))
        is_keyed = number % KEYED_EACH == 0
        headers = {"Content-Type": "application/x-ndjson"}
        if is_keyed:
            headers["Idempotency-Key"] = f"soak-{self.seed}-{number}"
        end = time.monotonic() + 120
        while True:
            try:
                status, _, data = api.request("POST", "/v1/jobs/bulk", text, headers, timeout=30)
                rows = [json.loads(line) for line in data.splitlines()] if status == 200 else None
            except (OSError, http.client.HTTPException, ValueError):
                status, rows = 0, None
            is_clear = rows is not None and all("id" in row for row in rows)
            if is_clear or not is_keyed or time.monotonic() > end:
                break
            time.sleep(chooser.uniform(0.05, 0.3))
        if is_keyed and not is_clear:
            self.note("wrong", f"batch {number}: no clear answer to a keyed submit within 120 s, the last was {status}")
        return self._record(number, status, rows, data if status else b"")

    def _record(self, number, status, rows, data):
        nonces = [self.nonce(number, index) for index in range(self.size)]
        if rows is None:
            if status in (429, 503) and b"unknown" not in data:
                self.rejected.update(nonces)
                self.counts["rejected"] += len(nonces)
            else:
                self.unknown.update(nonces)
                self.counts["unknown"] += len(nonces)
                if status not in (0, 429, 503):
                    self.note("wrong", f"batch {number}: submit answered {status}: {data[:200]}")
            return True
        if len(rows) != self.size:
            self.note("wrong", f"batch {number}: {len(rows)} answers to {self.size} lines")
        ids = {}
        for index, row in enumerate(rows[:self.size]):
            if "id" in row:
                ids[index] = row["id"]
            elif row["error"]["code"] in ("outcome_unknown", "internal"):
                self.unknown.add(nonces[index])
                self.counts["unknown"] += 1
            else:
                self.rejected.add(nonces[index])
                self.counts["rejected"] += 1
        if ids:
            self.live.update(ids.values())
            self.counts["accepted"] += len(ids)
            self._come_back(Batch(number, ids), 0.3 + self.delay_ms / 1000)
        return len(ids) < self.size

    # --- checks -------------------------------------------------------------------------------------

    def _come_back(self, batch, seconds):
        with self._lock:
            self._sequence += 1
            heapq.heappush(self._due, (time.monotonic() + seconds, self._sequence, batch))

    def _take_due(self):
        """The batches whose time has come, of 2,000 jobs at most: they are asked for together."""
        due, jobs = [], 0
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic() and jobs < 2000:
                due.append(heapq.heappop(self._due)[2])
                jobs += len(due[-1].ids)
        return due

    def _check_all(self):
        pipe, api, store = Pipes(self.origin), Api(self.origin), Store(self.socket_path)
        chooser = random.Random(self.seed)
        while not self._stop.is_set():
            due = self._take_due()
            if not due:
                time.sleep(0.002)
                continue
            for batch in due:
                if not batch.is_second and batch.number % QUERIED_EACH == 0:
                    self._query(batch, self._unseen(batch), api)
                if batch.is_second and self.sabotage:
                    with contextlib.suppress(OSError):
                        self.sabotage(batch, store)
            asked = [(batch, [index for index in batch.ids if index not in batch.judged] if batch.is_second else
                      self._unseen(batch)) for batch in due]
            answers = pipe.many([f"/v1/jobs/{batch.ids[index]}/result" for batch, indexes in asked for index in indexes])
            again, at = [], 0
            for batch, indexes in asked:
                part = list(zip(indexes, answers[at:at + len(indexes)]))
                at += len(indexes)
                if batch.is_second:
                    self._second_look(batch, part, pipe)
                    again.append(batch)
                else:
                    self._first_look(batch, part, chooser)
            self._forget(again, store)
        for one in (pipe, api, store):
            one.close()

    @staticmethod
    def _unseen(batch):
        return [index for index in batch.ids if index not in batch.digests]

    def _first_look(self, batch, answers, chooser):
        """answers: [(index, (status, result))] of the jobs whose end has not been seen yet."""
        for index, (status, data) in answers:
            job_id = batch.ids[index]
            if status in (0, 202, 503):
                continue
            if status in (404, 410):
                self.note("lost", f"{job_id}: its result answered {status}")
                self._drop(batch, index)
            elif status != 200:
                self.note("wrong", f"{job_id} did not succeed: {status} {data[:300]}")
                self._drop(batch, index)
            else:
                if self.nonce(batch.number, index).encode() not in data:
                    self.note("wrong", f"{job_id}: the result of another prompt: {data[:300]}")
                batch.digests[index] = hash(data)
                self.counts["ended"] += 1
        age = time.monotonic() - batch.at
        self.slowest_s = max(self.slowest_s, age)
        if len(batch.digests) < len(batch.ids):
            self._come_back(batch, min(2.0, 0.1 + age / 5))
        elif batch.ids:
            batch.is_second = True
            self._come_back(batch, chooser.uniform(*self._second_look_s))

    def _query(self, batch, waiting, api):
        """The batch by POST /v1/jobs/query: all of it is there, with its metadata."""
        try:
            status, _, data = api.request("POST", "/v1/jobs/query", {"ids": [batch.ids[index] for index in waiting]})
        except (OSError, http.client.HTTPException):
            return
        if status != 200:
            return
        found = {job["id"]: job for job in json.loads(data)["data"]}
        for index in waiting:
            job = found.get(batch.ids[index])
            if job is None:
                self.note("lost", f"{batch.ids[index]} is not among the jobs asked for")
            elif job["metadata"] != {"nonce": self.nonce(batch.number, index)}:
                self.note("wrong", f"{batch.ids[index]} has the metadata of another job")

    def _drop(self, batch, index):
        self.live.discard(batch.ids.pop(index))

    def _second_look(self, batch, answers, pipe):
        """Compares with what was seen first: the job is judged with this."""
        if answers and batch.number % DELETED_EACH == 0 and all(status == 200 for _, (status, _) in answers):
            deleted = pipe.many([f"/v1/jobs/{batch.ids[index]}" for index, _ in answers], "DELETE")
            for (index, _), (status, data) in zip(answers, deleted):
                if status not in (0, 200, 204, 409, 410, 503):
                    self.note("wrong", f"{batch.ids[index]}: DELETE answered {status}: {data[:200]}")
        for index, (status, data) in answers:
            job_id = batch.ids[index]
            if status in (0, 503):
                continue
            if status == 202:
                self.note("backwards", f"{job_id} had ended and has not any more")
            elif status != 200:
                self.note("lost", f"{job_id} had a result, then {status}")
            elif hash(data) != batch.digests[index]:
                self.note("double", f"{job_id} has shown two different results")
            batch.judged.add(index)

    def _forget(self, batches, store):
        """The records of what is judged leave Redis; the rest comes again."""
        keys = [record_key(batch.ids[index]) for batch in batches for index in batch.judged]
        try:
            for at in range(0, len(keys), 500):
                store.command("UNLINK", *keys[at:at + 500])
        except OSError:
            keys = []
        for batch in batches:
            if keys:
                self.counts["forgotten"] += len(batch.judged)
                for index in batch.judged:
                    self._drop(batch, index)
                batch.judged = set()
            if batch.ids:
                self._come_back(batch, 0.5)

    # --- what nobody was promised -------------------------------------------------------------------

    def _sweep_all(self):
        store, api = Store(self.socket_path), Api(self.origin)
        while not self._stop.wait(60):
            self._try_sweep(store, api)
        store.close()
        api.close()

    def _try_sweep(self, store, api, age_s=90):
        """False when Redis or a broker was away in the middle: the next sweep finds the same again."""
        try:
            self.sweep(store, api, age_s)
            return True
        except (OSError, http.client.HTTPException, AssertionError, ValueError):
            return False

    def sweep(self, store, api, age_s):
        """Looks at each record of the store that no promise stands for; ages idempotency keys, which Redis keeps a day."""
        strangers, keys, cursor = [], [], "0"
        now = float(store.command("TIME")[0])
        while True:
            cursor, found = store.command("SCAN", cursor, "MATCH", "{*}:[ju]:*", "COUNT", 1000)
            for key in found:
                name = "job_" + key.rsplit(":", 1)[1]
                if ":u:" in key:
                    keys.append(key)
                elif name not in self.live and now - created_s(name) >= age_s:
                    strangers.append(name)
            if cursor == "0":
                break
        for at in range(0, len(keys), 500):
            part = keys[at:at + 500]
            lives = store.commands([("PTTL", key) for key in part])
            if old := [key for key, life in zip(part, lives) if 0 < (life or 0) < (86400 - 150) * 1000]:
                store.command("UNLINK", *old)
        for at in range(0, len(strangers), 1000):
            self._judge_strangers(strangers[at:at + 1000], store, api)

    def _judge_strangers(self, ids, store, api):
        for job in api.json("POST", "/v1/jobs/query", {"ids": ids}, expect=200)["data"]:
            nonce = job["metadata"].get("nonce", "")
            number = int(nonce.split("-")[1]) if nonce.startswith(f"s{self.seed}-") else -1
            if job["id"] in self.live or number in self.trying:
                continue
            if nonce in self.rejected:
                self.note("phantom", f"{job['id']} {nonce} was refused, yet is there")
            elif nonce in self.unknown:
                self.counts["late_known"] += 1
            elif job["id"] in self.live:
                continue
            else:
                self.note("unexpected", f"{job['id']} {nonce} {job['status']}: no one submitted it, or it came back")
            if job["finished_at"] is not None:
                store.command("UNLINK", record_key(job["id"]))

