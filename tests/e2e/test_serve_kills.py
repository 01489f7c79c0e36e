"""The whole service killed at random moments under load: no accepted event is lost, none that succeeded is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from serve_support import ACCOUNT, REGION, client, create, make_role, service, zipped

KILLS = int(os.environ.get("LADING_KILLS", "4"))
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
            time.sleep(0.01)  # so many as can be counted, not as many as can be sent


def queued(url: str) -> int:
    with urllib.request.urlopen(f"{url}/_lading/metrics", timeout=30) as response:
        text = response.read().decode()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("AsyncEventsQueued ")))


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


@pytest.mark.skipif(os.geteuid() != 0, reason="environments with all walls need root")
def test_kills_lose_no_event_and_repeat_none_that_succeeded(tmp_path: Path) -> None:
    chance, accepted = random.Random(11), set[str]()
    with service(neighbours={}, walls=None, hosts=frozenset({"169.254.100.1"})) as queues:
        sqs = client(queues, "sqs")
        queue = sqs.create_queue(QueueName="written-down", Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]
        event = json.dumps({"queue": queue}).encode()
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
        with served(tmp_path, queues) as (url, _):
            deadline = time.monotonic() + 60 + KILLS * 3
            while queued(url):
                assert time.monotonic() < deadline, f"{queued(url)} events are still queued"
                time.sleep(0.05)
        recorded: set[str] = set()
        tries = 0
        for what, identity in received(sqs, queue):
            assert what == "recorded" or identity not in recorded, f"{identity} was tried after its success was kept"
            tries += what == "tried"
            if what == "recorded":
                recorded.add(identity)
        sqs.delete_queue(QueueUrl=queue)
    assert len(accepted) > KILLS, "hardly anything was accepted: the test shows nothing"
    assert not accepted - recorded, f"{len(accepted - recorded)} of {len(accepted)} accepted events were lost"
    assert tries >= len(recorded)
    print(f"{KILLS} kills, {len(accepted)} events accepted, {tries} tries")
