"""The whole service killed at random moments under load: no accepted event is lost, none that succeeded is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from serve_support import ACCOUNT, REGION, client, create, make_role, service, zipped

KILLS = int(os.environ.get("LADING_KILLS", "4"))
STUCK = 120
"""Seconds without an event's end, while one is due, after which the queue counts as stuck."""
STEPS = 60
"""Times that the service's clock goes on to the next try: more than an event's tries and back-offs in its six hours."""
CODE = """
import json, os, urllib.request
def handler(event, context):
    body = {"QueueUrl": event["queue"], "MessageBody": "tried " + context.aws_request_id}
    headers = {
        "X-Amz-Target": "AmazonSQS.SendMessage",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": "AWS4-HMAC-SHA256 Credential=%s/20260101/%s/sqs/aws4_request, SignedHeaders=host, Signature=0"
        % (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_REGION"]),
    }
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()
"""


@contextlib.contextmanager
def served(state: Path, queues: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`lading serve` with SQS elsewhere, where no kill reaches it."""
    words = ["serve", "--port", "0", "--state", str(state), "--neighbour", f"sqs={queues}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lading.cli.main", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "http://" in line, f"{line!r}, exit {process.poll()}"
        yield line.split()[2], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        process.stdout.close()


def send(url: str, event: bytes, accepted: set[str], stop: threading.Event) -> None:
    """Asynchronous invokes until the service is gone."""
    api = client(url)
    with contextlib.suppress(ClientError, BotoCoreError, ResponseParserError, OSError):
        while not stop.is_set():
            answer = api.invoke(FunctionName="written", InvocationType="Event", Payload=event)
            if answer.get("StatusCode") == 202:
                accepted.add(answer["ResponseMetadata"]["RequestId"])
            time.sleep(0.05)  # so many as can be counted, not as many as can be sent


@dataclass(frozen=True)
class Left:
    """What the queue's file holds."""

    count: int
    next_due: float
    states: tuple[tuple[int, int, str, int], ...]
    """(attempts, refusals in a row, what is to be sent, how many such events)"""

    def __str__(self) -> str:
        lines = [
            f"{count} × attempts {attempts}, refusals {refusals}, to be sent {sending}"
            for attempts, refusals, sending, count in self.states
        ]
        return f"{self.count} events, the next due at {self.next_due:.1f}: " + "; ".join(lines)


def left_in(state: Path) -> Left:
    """Read beside the service, as WAL permits."""
    with contextlib.closing(sqlite3.connect(f"file:{state / 'queue.sqlite'}?mode=ro", uri=True, timeout=30)) as file:
        count, due = file.execute("SELECT count(*), min(due) FROM events").fetchone()
        states = file.execute(
            "SELECT document ->> 'attempts', document ->> 'refusals', document ->> 'deliveries' != '[]', count(*)"
            " FROM events GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 20"
        ).fetchall()
    return Left(count, due or 0.0, tuple(states))


def clock(url: str, step: float | None = None) -> float:
    """What the service's clock shows, after a step of so many seconds."""
    request = urllib.request.Request(f"{url}/_lading/clock" + ("" if step is None else f"?step={step}"))
    request.method = "GET" if step is None else "POST"
    with urllib.request.urlopen(request, timeout=60) as answer:
        return float(json.load(answer)["now"])


def received(sqs: Any, queue: str) -> Iterator[tuple[str, str]]:
    """(what, id) of all that was written down, in order."""
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            text = message["Body"]
            if text.startswith("tried "):
                yield "tried", text.partition(" ")[2]
            else:
                record = json.loads(text)
                assert record["requestContext"]["condition"] == "Success", record
                yield "recorded", record["requestContext"]["requestId"]
        entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)


@dataclass
class Story:
    """What was written down, taken out of its queue as it goes: moto counts all its messages at every send, so that with
    thousands of them it takes tens of milliseconds, and the events wait for it."""

    sqs: Any
    queue: str
    recorded: set[str] = field(default_factory=set)
    tries: int = 0

    def read(self) -> None:
        for what, identity in received(self.sqs, self.queue):
            again = f"{identity} was tried after its success was kept"
            assert what == "recorded" or identity not in self.recorded, again
            self.tries += what == "tried"
            if what == "recorded":
                self.recorded.add(identity)


def drain(url: str, state: Path, story: Story) -> int:
    """Wait until the queue is empty, going on to the next try where all that is left waits for one; how often that was."""
    steps, left = 0, left_in(state)
    ended = time.monotonic()
    while left.count:
        if (ahead := left.next_due - clock(url)) > 0:
            assert steps < STEPS, f"the queue doesn't empty however often its events are tried: {left}"
            clock(url, ahead + 0.1)
            steps += 1
            ended = time.monotonic()
        time.sleep(0.2)
        story.read()
        before, left = left, left_in(state)
        if left != before:
            ended = time.monotonic()
        assert time.monotonic() < ended + STUCK, f"for {STUCK} s nothing happened to events that are due: {left}"
    return steps


@pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")
def test_kills_lose_no_event_and_repeat_none_that_succeeded(tmp_path: Path) -> None:
    chance, accepted = random.Random(11), set[str]()
    with service(neighbours={}, walls=None, hosts=frozenset({"169.254.100.1"})) as queues:
        sqs = client(queues, "sqs")
        queue = sqs.create_queue(QueueName="written-down", Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]
        event, story = json.dumps({"queue": queue}).encode(), Story(sqs, queue)
        with served(tmp_path, queues) as (url, _):
            make_role(url)
            api = client(url)
            create(api, "written", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=60, MemorySize=512)
            destination = {"OnSuccess": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:written-down"}}
            api.put_function_event_invoke_config(FunctionName="written", DestinationConfig=destination)
        for _ in range(KILLS):
            with served(tmp_path, queues) as (url, process):
                stop = threading.Event()
                threads = [threading.Thread(target=send, args=(url, event, accepted, stop)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                time.sleep(chance.uniform(0.05, 1.5))
                process.kill()
                process.wait(20)
                stop.set()
                for thread in threads:
                    thread.join(60)
            story.read()
        with served(tmp_path, queues) as (url, _):
            kept, begun = left_in(tmp_path), time.monotonic()
            steps = drain(url, tmp_path, story)
            seconds = time.monotonic() - begun
        story.read()
        sqs.delete_queue(QueueUrl=queue)
    assert len(accepted) > KILLS, "hardly anything was accepted: the test shows nothing"
    assert not accepted - story.recorded, (
        f"{len(accepted - story.recorded)} of {len(accepted)} accepted events were lost"
    )
    assert story.tries >= len(story.recorded)
    print(f"{KILLS} kills, {len(accepted)} events accepted, {story.tries} tries")
    print(f"left after the last kill: {kept}; drained in {seconds:.0f} s, the clock stepped {steps} times")
