"""Extensions, streaming and freezing in real environments: a layer's extension process, a handler that talks HTTP itself."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lading.model.progress import Silent
from lading.model.target import find_target
from lading.sandbox.host import Host
from lading.sandbox.spec import Isolation, Network
from lading.service.events import EnvironmentChanged, Event, EventStream, LogLine
from lading.service.pool.environment import Environment
from lading.service.pool.function import Budgets, FunctionVersion, InvokeRequest, Outcome, StreamSink
from lading.service.pool.local import LocalFunction, LocalOptions, prepare
from lading.store import open_store

pytestmark = [pytest.mark.root, pytest.mark.network]
BUDGETS = Budgets(init=8.0, linger=0.01, shutdown_internal=0.3, shutdown_external=2.0)
EXTENSION = """
    #!/var/lang/bin/python3.13
    import http.client, json, os, sys
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    def call(method, path, body=None, **headers):
        api.request(method, "/2020-01-01/extension/" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = api.getresponse()
        return answer, json.loads(answer.read())
    answer, body = call("POST", "register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}), Lambda_Extension_Name="watch")
    me = answer.headers["Lambda-Extension-Identifier"]
    print("registered", body["functionName"], "_HANDLER" in os.environ, flush=True)
    while True:
        _, event = call("GET", "event/next", Lambda_Extension_Identifier=me)
        print("saw", event["eventType"], event.get("shutdownReason", ""), flush=True)
        if event["eventType"] == "SHUTDOWN":
            sys.exit(0)
"""
STREAMING = """
    import http.client, json, os
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    def next_event():
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = api.getresponse()
        return answer.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(answer.read())
    def stream(request, chunks, trailers):
        api.putrequest("POST", f"/2018-06-01/runtime/invocation/{request}/response")
        api.putheader("Transfer-Encoding", "chunked")
        api.putheader("Content-Type", "text/plain")
        api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
        api.endheaders()
        for chunk in chunks:
            api.send(f"{len(chunk):x}\\r\\n".encode() + chunk + b"\\r\\n")
        api.send(b"0\\r\\n" + b"".join(f"{k}: {v}\\r\\n".encode() for k, v in trailers.items()) + b"\\r\\n")
        return api.getresponse().read()
    while True:
        request, event = next_event()
        parts = [part.encode() for part in event["parts"]] * event.get("times", 1)
        stream(request, parts, event.get("trailers", {}))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("real environments with all walls need root")
    with Host() as found:
        yield found


def prepared(folder: Path, code: str, **changes: Any) -> FunctionVersion:
    task = folder / "task"
    task.mkdir()
    (task / "app.py").write_text(textwrap.dedent(code), "utf-8")
    function = LocalFunction("extended", task, "app.handler", find_target("python3.13", "x86_64"), memory=1769)
    return prepare(replace(function, **changes), LocalOptions(budgets=BUDGETS), open_store(), Silent())


def layer(folder: Path, source: str) -> Path:
    """A layer with one external extension."""
    path = folder / "layer" / "extensions" / "watch"
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(source).lstrip(), "utf-8")
    path.chmod(0o755)
    return folder / "layer"


async def run(
    host: Host, function: FunctionVersion, *requests: InvokeRequest, pause: float = 0
) -> tuple[list[Outcome], list[Event]]:
    stream, seen = EventStream(), list[Event]()
    stream.follow(seen.append)
    environment = Environment(function, host, stream)
    outcomes = []
    try:
        await environment.start()
        for request in requests:
            outcomes.append(await environment.invoke(request))
            await asyncio.sleep(pause)
    finally:
        await environment.close()
    return outcomes, seen


def lines(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, LogLine)]


def test_an_external_extension_lives_through_all_phases(host: Host, tmp_path: Path) -> None:
    code = "def handler(event, context):\n    print('said by the function')\n    return 'ok'"
    function = prepared(tmp_path, code, layers=(layer(tmp_path, EXTENSION),))
    outcomes, events = asyncio.run(run(host, function, InvokeRequest("id-1", b"{}"), InvokeRequest("id-2", b"{}")))
    assert [outcome.answer.payload for outcome in outcomes] == [b'"ok"', b'"ok"']
    log = lines(events)
    told = log.index("EXTENSION\tName: watch\tState: Ready\tEvents: [INVOKE, SHUTDOWN]")
    assert log.index("registered extended False") < told < log.index("START RequestId: id-1 Version: $LATEST")
    assert "registered extended False" in log
    assert log.count("saw INVOKE ") == 2
    assert log[-1] == "saw SHUTDOWN spindown"
    sources = {event.text: event.source for event in events if isinstance(event, LogLine)}
    assert sources["saw INVOKE "] == sources["saw SHUTDOWN spindown"] == "extension"
    assert sources["said by the function"] == "function"


def test_a_timeout_tells_the_extension_and_starts_it_again(host: Host, tmp_path: Path) -> None:
    function = prepared(
        tmp_path,
        "import time\ndef handler(event, context):\n    time.sleep(event['sleep'])\n    return 'ok'",
        layers=(layer(tmp_path, EXTENSION),),
        timeout=3.0,  # a restart of both has to fit into it
    )
    outcomes, events = asyncio.run(
        run(host, function, InvokeRequest("id-1", b'{"sleep": 30}'), InvokeRequest("id-2", b'{"sleep": 0}'))
    )
    assert [outcome.status for outcome in outcomes] == ["timeout", "success"]
    log = lines(events)
    assert "saw SHUTDOWN timeout" in log
    assert log.count("registered extended False") == 2


@pytest.mark.parametrize(
    ("source", "error_type", "message", "line"),
    [
        ("#!/var/lang/bin/python3.13\nimport sys\nsys.exit(7)\n", "Extension.Crash", "exit status 7", "State: Exited"),
        (
            "#!/not/there\n",
            "Extension.LaunchError",
            "fork/exec /opt/extensions/watch: no such file or directory",
            "State: LaunchError\tEvents: []\tError Type: UnknownError",
        ),
    ],
    ids=["crash", "launch"],
)
def test_an_extension_that_does_not_begin(
    host: Host, tmp_path: Path, source: str, error_type: str, message: str, line: str
) -> None:
    function = prepared(tmp_path, "def handler(event, context):\n    return 'ok'", layers=(layer(tmp_path, source),))
    outcomes, events = asyncio.run(run(host, function, InvokeRequest("id-1", b"{}")))
    body = json.loads(outcomes[0].answer.payload)
    assert body["errorType"] == error_type
    assert message in body["errorMessage"]
    assert any(line in one for one in lines(events) if one.startswith("EXTENSION\tName: watch"))


def test_the_eleventh_extension_is_not_started(host: Host, tmp_path: Path) -> None:
    folder = layer(tmp_path, EXTENSION)
    for number in range(10):
        (folder / "extensions" / f"a{number}").symlink_to("watch")
    function = prepared(tmp_path, "def handler(event, context):\n    return 'ok'", layers=(folder,))
    outcomes, events = asyncio.run(run(host, function, InvokeRequest("id-1", b"{}")))
    assert json.loads(outcomes[0].answer.payload)["errorType"] == "Extension.LaunchError"
    told = "EXTENSION\tName: watch\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions"
    assert told in lines(events)


def stream_request(event: object) -> tuple[InvokeRequest, list[object]]:
    got: list[object] = []
    sink = StreamSink(started=lambda kind: got.append(kind), chunk=lambda data: got.append(data))
    return InvokeRequest("id-1", json.dumps(event).encode(), sink=sink), got


def test_a_streamed_response_reaches_the_sink(host: Host, tmp_path: Path) -> None:
    request, got = stream_request({"parts": ["a", "b", "c"]})
    [outcome], _ = asyncio.run(run(host, prepared(tmp_path, STREAMING), request))
    assert outcome.status == "success"
    assert outcome.answer.streamed
    assert got[0] == "text/plain"
    assert b"".join(part for part in got[1:] if isinstance(part, bytes)) == b"abc"


def test_without_a_sink_a_stream_is_returned_whole(host: Host, tmp_path: Path) -> None:
    request = InvokeRequest("id-1", b'{"parts": ["hello ", "world"]}')
    [outcome], _ = asyncio.run(run(host, prepared(tmp_path, STREAMING), request))
    assert outcome.answer.payload == b"hello world"


def test_an_error_in_the_middle_of_a_stream(host: Host, tmp_path: Path) -> None:
    trailers = {"Lambda-Runtime-Function-Error-Type": "Function.Late", "Lambda-Runtime-Function-Error-Body": "e30="}
    request, _ = stream_request({"parts": ["a"], "trailers": trailers})
    [outcome], _ = asyncio.run(run(host, prepared(tmp_path, STREAMING), request))
    assert (outcome.status, outcome.answer.error_type) == ("error", "Function.Late")


def test_after_6_mb_a_stream_flows_at_2_mb_a_second(host: Host, tmp_path: Path) -> None:
    function = prepared(tmp_path, STREAMING, timeout=20.0)
    request, got = stream_request({"parts": ["x" * 65_536], "times": 8 * 16})
    [outcome], _ = asyncio.run(run(host, function, request))
    assert sum(len(part) for part in got if isinstance(part, bytes)) == 8 * 1024 * 1024
    assert outcome.duration > 800, "the seventh and eighth megabyte take a second; what is read last waits for nothing"


def test_a_slow_caller_holds_the_function_back(host: Host, tmp_path: Path) -> None:
    function = prepared(tmp_path, STREAMING, timeout=20.0)
    counts: list[int] = []
    got = 0

    def chunk(data: bytes) -> None:
        nonlocal got
        got += len(data)

    def hold(resume: Callable[[], None]) -> bool:
        if got < 1024 * 1024 or counts:
            return False
        asyncio.get_running_loop().call_later(1.0, go_on, resume)
        return True

    def go_on(resume: Callable[[], None]) -> None:
        counts.append(got)
        resume()

    event = json.dumps({"parts": ["x" * 65_536], "times": 5 * 16}).encode()
    sink = StreamSink(started=lambda kind: None, chunk=chunk, hold=hold)
    [outcome], _ = asyncio.run(run(host, function, InvokeRequest("id-1", event, sink=sink)))
    assert outcome.status == "success"
    assert got == 5 * 1024 * 1024
    assert counts[0] < 2 * 1024 * 1024, "while the caller waited, hardly more was read"
    assert outcome.duration > 900


def test_between_invokes_everything_stands_still(host: Host, tmp_path: Path) -> None:
    if not host.capabilities.freezer:
        pytest.skip("no cgroup freezer on this host")
    function = prepared(
        tmp_path,
        """
        import threading, time
        ticks = 0
        def tick():
            global ticks
            while True:
                time.sleep(0.01)
                ticks += 1
        threading.Thread(target=tick, daemon=True).start()
        def handler(event, context):
            return ticks
        """,
    )
    begin = time.monotonic()
    requests = [InvokeRequest(f"id-{number}", b"{}") for number in (1, 2)]
    outcomes, events = asyncio.run(run(host, function, *requests, pause=0.9))
    first, second = (json.loads(outcome.answer.payload) for outcome in outcomes)
    assert second - first < 40, "a thread that went on would have counted to 90"
    states = [event.state for event in events if isinstance(event, EnvironmentChanged)]
    assert states.count("frozen") == 2
    assert time.monotonic() - begin > 1.8


TELEMETRY = """
    #!/var/lang/bin/python3.13
    import http.client, http.server, json, os, sys, threading
    class Take(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            for record in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
                if record["type"].startswith("platform."):
                    open("/tmp/records", "a").write(record["type"] + "\\n")
                else:
                    open("/tmp/records", "a").write(record["type"] + " " + str(record["record"]))
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_):
            pass
    server = http.server.HTTPServer(("0.0.0.0", 8099), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("POST", "/2020-01-01/extension/register", '{"events": ["INVOKE"]}', {"Lambda-Extension-Name": "watch"})
    answer = api.getresponse()
    answer.read()
    me = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
    api.request("PUT", "/2022-07-01/telemetry", json.dumps({
        "schemaVersion": "2022-12-13", "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8099/"},
    }), me)
    assert api.getresponse().read() == b'"OK"'
    while True:
        api.request("GET", "/2020-01-01/extension/event/next", headers=me)
        api.getresponse().read()
"""


def test_telemetry_is_delivered_inside(host: Host, tmp_path: Path) -> None:
    code = """
        def handler(event, context):
            print("said", event["n"])
            return open("/tmp/records").read() if event["n"] == 2 else None
    """
    function = prepared(tmp_path, code, layers=(layer(tmp_path, TELEMETRY),))
    requests = [InvokeRequest(f"id-{number}", json.dumps({"n": number}).encode()) for number in (1, 2)]
    outcomes, events = asyncio.run(run(host, function, *requests, pause=0.5))
    records = json.loads(outcomes[1].answer.payload).splitlines()
    expected = (
        "initStart",
        "telemetrySubscription",
        "initRuntimeDone",
        "extension",
        "initReport",
        "start",
        "runtimeDone",
    )
    order = [record for record in records if record != "function said 1"]
    assert order[:8] == [f"platform.{kind}" for kind in (*expected, "report")], "as they were seen to come on Lambda"
    assert "function said 1" in records
    assert "TELEMETRY\tName: watch\tState: Subscribed\tTypes: [Platform, Function]" in lines(events)


TCP_TELEMETRY = """
    #!/var/lang/bin/python3.13
    import http.client, json, os, socket, threading
    server = socket.create_server(("sandbox.localdomain", 8098))
    def take():
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile() as stream, open("/tmp/records", "a") as file:
                for line in stream:
                    file.write(line)
                    file.flush()
    threading.Thread(target=take, daemon=True).start()
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("POST", "/2020-01-01/extension/register", '{"events": ["INVOKE"]}', {"Lambda-Extension-Name": "watch"})
    answer = api.getresponse()
    answer.read()
    me = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
    api.request("PUT", "/2020-08-15/logs", json.dumps({
        "schemaVersion": "2021-03-18", "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "TCP", "port": 8098},
    }), me)
    assert api.getresponse().read() == b'"OK"'
    while True:
        api.request("GET", "/2020-01-01/extension/event/next", headers=me)
        api.getresponse().read()
"""


@pytest.mark.parametrize("isolation", [Isolation.ROOT, Isolation.USER])
def test_the_logs_api_over_tcp_is_a_record_a_line(host: Host, tmp_path: Path, isolation: Isolation) -> None:
    code = """
        import time
        def handler(event, context):
            print("said", event["n"])
            if event["n"] == 1:
                return None
            # TCP has no answer: what was sent before the freeze is taken after the thaw
            while "platform.report" not in (records := open("/tmp/records").read()):
                time.sleep(0.01)
            return records
    """
    function = prepared(tmp_path, code, layers=(layer(tmp_path, TCP_TELEMETRY),), timeout=20.0)
    function = replace(function, spec=replace(function.spec, isolation=isolation, network=Network.NONE))
    requests = [InvokeRequest(f"id-{number}", json.dumps({"n": number}).encode()) for number in (1, 2)]
    with nullcontext(host) if isolation is Isolation.ROOT else Host(isolation) as chosen:
        outcomes, events = asyncio.run(run(chosen, function, *requests, pause=0.5))
    records = [json.loads(line) for line in json.loads(outcomes[1].answer.payload).splitlines()]
    assert [(record["type"], record["record"]) for record in records[:5]] == [
        ("platform.logsSubscription", {"name": "watch", "state": "Subscribed", "types": ["platform", "function"]}),
        ("platform.extension", {"name": "watch", "state": "Ready", "events": ["INVOKE"]}),
        ("platform.start", {"requestId": "id-1", "version": "$LATEST"}),
        ("function", "said 1\n"),
        ("platform.runtimeDone", {"requestId": "id-1", "status": "success"}),
    ]
    assert [record["type"] for record in records[5:7]] == ["platform.end", "platform.report"]
    assert set(records[6]["record"]) == {"requestId", "metrics"}
    assert "LOGS\tName: watch\tState: Subscribed\tTypes: [Platform, Function]" in lines(events)
