"""The whole service killed at random moments under load: no accepted event is lost, none that succeeded is tried again."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from serve_support import ACCOUNT, REGION, client, clock, create, make_role, served, service, until, zipped
from serve_victim import Victims
from test_serve_sources import mapped

SIGNED = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/lambda/aws4_request, SignedHeaders=host, Signature=0"
KILLS = int(os.environ.get("LADING_KILLS", "4"))
SENT = 10
"""Events of a thread in a life: so many as can be counted, not as many as can be sent."""
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


def send(url: str, event: bytes, accepted: set[str], stop: threading.Event) -> None:
    """Asynchronous invokes until the service is gone. Without an SDK: making its clients takes longer than most lives last."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    headers = {"X-Amz-Invocation-Type": "Event", "Authorization": SIGNED}
    with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError):
        for _ in range(SENT):
            if stop.wait(0.1):
                return
            connection.request("POST", "/2015-03-31/functions/written/invocations", event, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 202:
                accepted.add(str(answer.headers["x-amzn-RequestId"]))


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


class Notebook(ThreadingHTTPServer):
    """As much of SQS and STS as this test needs, elsewhere, where no kill reaches it: GetQueueUrl, SendMessage, written down in
    order, and AssumeRole. moto takes seconds to load after each kill and tens of milliseconds for a message."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.written: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Who wrote was killed."""


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Notebook)
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if b"Action=AssumeRole" in sent:
            self._answer(ROLE_ASSUMED, "text/xml")
            return
        parameters = json.loads(sent)
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        answer = {"QueueUrl": f"{self.server.url}/{ACCOUNT}/written-down"}
        if operation == "SendMessage":
            self.server.written.append(parameters["MessageBody"])
            digest = hashlib.md5(parameters["MessageBody"].encode()).hexdigest()
            answer = {"MessageId": str(len(self.server.written)), "MD5OfMessageBody": digest}
        self._answer(json.dumps(answer).encode(), "application/x-amz-json-1.0")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Not on stderr."""


ROLE_ASSUMED = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""


@contextlib.contextmanager
def notebook() -> Iterator[Notebook]:
    with Notebook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Story:
    """What is in the notebook, read so far."""

    book: Notebook
    at: int = 0
    recorded: set[str] = field(default_factory=set)
    tries: int = 0

    def read(self) -> None:
        end = len(self.book.written)
        for text in self.book.written[self.at : end]:
            if text.startswith("tried "):
                identity = text.partition(" ")[2]
                assert identity not in self.recorded, f"{identity} was tried after its success was kept"
                self.tries += 1
            else:
                context = json.loads(text)["requestContext"]
                assert context["condition"] == "Success", text
                self.recorded.add(context["requestId"])
        self.at = end


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


def wait_for_a_try(book: Notebook, before: int) -> None:
    deadline = time.monotonic() + 60
    while len(book.written) == before:
        assert time.monotonic() < deadline, "a service that was started again tries none of its events"
        time.sleep(0.01)


@pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")
def test_kills_lose_no_event_and_repeat_none_that_succeeded(tmp_path: Path) -> None:
    chance, accepted = random.Random(11), set[str]()
    with notebook() as book, contextlib.ExitStack() as stack:
        words = ("--state", str(tmp_path), "--neighbour", f"sqs={book.url}", "--neighbour", f"sts={book.url}")
        event, story = json.dumps({"queue": f"{book.url}/{ACCOUNT}/written-down"}).encode(), Story(book)
        victims = stack.enter_context(contextlib.closing(Victims()))
        with served(*words) as (url, _):
            make_role(url)
            api = client(url)
            create(api, "written", Code={"ZipFile": zipped({"app.py": CODE})}, Timeout=60, MemorySize=512)
            destination = {"OnSuccess": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:written-down"}}
            api.put_function_event_invoke_config(FunctionName="written", DestinationConfig=destination)
        for number in range(KILLS):
            with victims.served(*words) as life:
                stop = threading.Event()
                threads = [threading.Thread(target=send, args=(life.url, event, accepted, stop)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                if number % 10 == 1:  # every tenth dies while it tries events; the others may before they begin
                    wait_for_a_try(book, len(book.written))
                time.sleep(chance.uniform(0.0, 1.0))
                life.kill()
                stop.set()
                for thread in threads:
                    thread.join(60)
            story.read()
        tried_before = story.tries
        with served(*words) as (url, _):
            kept, begun = left_in(tmp_path), time.monotonic()
            steps = drain(url, tmp_path, story)
            seconds = time.monotonic() - begun
        story.read()
    assert tried_before >= KILLS // 10, "hardly anything was tried between the kills: the test shows nothing"
    assert len(accepted) > KILLS, "hardly anything was accepted: the test shows nothing"
    assert not accepted - story.recorded, (
        f"{len(accepted - story.recorded)} of {len(accepted)} accepted events were lost"
    )
    assert story.tries >= len(story.recorded)
    print(
        f"{KILLS} kills, {len(accepted)} events accepted, {story.tries} tries, {tried_before} of them before the last kill"
    )
    print(f"left after the last kill: {kept}; drained in {seconds:.0f} s, the clock stepped {steps} times")


STREAMED = 20
"""Records that come into the stream in each life."""
READER = (
    CODE.replace(
        "def handler(event, context):", "import base64\n\ndef handler(event, context):\n    [record] = event['Records']"
    )
    .replace('event["queue"]', 'os.environ["QUEUE"]')
    .replace('"tried " + context.aws_request_id', "base64.b64decode(record['kinesis']['data']).decode()")
)


@pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")
def test_kills_lose_no_record_of_a_stream_and_repeat_only_what_was_at_work(tmp_path: Path) -> None:
    """The stream is at another service, which isn't killed. Batches of one: a kill may repeat one record, and no older one."""
    chance, kills = random.Random(5), max(2, KILLS // 2)
    with notebook() as book, contextlib.ExitStack() as stack:
        beside = stack.enter_context(service(neighbours={}, walls=None))
        words = ["--state", str(tmp_path)]
        for name, url in {"kinesis": beside, "sqs": book.url, "sts": book.url}.items():
            words += ["--neighbour", f"{name}={url}"]
        kinesis = client(beside, "kinesis")
        kinesis.create_stream(StreamName="killed", ShardCount=1)
        stack.callback(kinesis.delete_stream, StreamName="killed")
        victims = stack.enter_context(contextlib.closing(Victims()))
        with served(*words) as (url, _):
            make_role(url)
            api = client(url)
            queue = {"Variables": {"QUEUE": f"{book.url}/{ACCOUNT}/written-down"}}
            create(
                api,
                "reader",
                Code={"ZipFile": zipped({"app.py": READER})},
                Timeout=60,
                MemorySize=512,
                Environment=queue,
            )
            mapped(
                api, f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/killed", BatchSize=1, StartingPosition="TRIM_HORIZON"
            )
        for life_number in range(kills):
            numbers = range(life_number * STREAMED, (life_number + 1) * STREAMED)
            records = [{"Data": str(number).encode(), "PartitionKey": "same"} for number in numbers]
            kinesis.put_records(StreamName="killed", Records=records)
            with victims.served(*words) as life:
                wait_for_a_try(book, len(book.written))
                time.sleep(chance.uniform(0.0, 0.1))
                life.kill()
        with served(*words):
            until(lambda: len(set(book.written)) == kills * STREAMED, 120)
    firsts = list(dict.fromkeys(book.written))
    assert firsts == [str(number) for number in range(kills * STREAMED)], "a record was left out, or came out of order"
    assert len(book.written) - len(firsts) <= kills, f"more was repeated than was at work: {book.written}"
