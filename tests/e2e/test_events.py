"""Server-sent events of a job: in order, with sequence numbers, resumable without a gap or a repeat."""

import http.client
import json
import urllib.parse

from tests.harness.stack import SLOW, chat


class Stream:
    def __init__(self, origin, path, last_event_id=None):
        parts = urllib.parse.urlsplit(origin)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30 * SLOW)
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        self.status = self.answer.status

    def event(self):
        """The next event as a dict, None at the end; comments are skipped."""
        fields = {}
        while True:
            line = self.answer.readline()
            if not line:
                return None
            line = line.decode().rstrip("\r\n")
            if not line:
                if fields:
                    return fields
            elif not line.startswith(":"):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")

    def rest(self):
        events = []
        while (event := self.event()) is not None:
            events.append(event)
        return events

    def close(self):
        self.connection.close()


def test_events_follow_a_job_to_its_end(stack, api):
    job = api.submit(chat(user="sim:delay_ms=300"))
    stream = Stream(stack.origin, f"/v1/jobs/{job['id']}/events")
    assert stream.status == 200
    assert stream.answer.getheader("content-type").startswith("text/event-stream")
    events = stream.rest()
    stream.close()
    assert events[-1]["event"] == "done"
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    states = [json.loads(event["data"])["status"] for event in events if event["event"] == "job"]
    assert states[-1] == "succeeded"
    order = ["queued", "running", "succeeded"]
    assert states == [state for state in order if state in states]


def test_resume_neither_repeats_nor_skips(stack, api):
    job = api.submit(chat(), delay_ms=800)
    path = f"/v1/jobs/{job['id']}/events"
    first = Stream(stack.origin, path)
    head = first.event()
    assert head["event"] == "job" and json.loads(head["data"])["status"] == "scheduled"
    whole = Stream(stack.origin, path).rest()
    first.close()  # gone in the middle
    resumed = Stream(stack.origin, path, head["id"]).rest()
    assert [event["id"] for event in resumed] == [event["id"] for event in whole if int(event["id"]) > int(head["id"])]
    assert resumed[-1]["event"] == "done"
    assert Stream(stack.origin, path, resumed[-1]["id"]).rest() == []


def test_events_of_a_finished_job(stack, api):
    done = api.finish(api.submit()["id"])
    events = Stream(stack.origin, f"/v1/jobs/{done['id']}/events").rest()
    assert [event["event"] for event in events][-1] == "done"
    assert json.loads(events[0]["data"])["status"] == "succeeded"
