"""Chains of invokes, counted in the trace header as AWS does, so that loops end.

Source: Lambda Developer Guide, "Use Lambda recursive loop detection": about 16 invokes of one function by one chain of requests.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping

from lading.service.contract.errors import ApiError

MOST_IN_CHAIN = 16
"""Invokes of one function by one chain of events before it counts as a loop."""
TRACE = "AWSTraceHeader"
"""Attribute of a message in SQS that has the trace header of its sender."""
_MOST_FUNCTIONS = 64


def extend_lineage(lineage: Mapping[str, int], arn: str) -> dict[str, int]:
    name = short_name(arn)
    return {**lineage, name: lineage.get(name, 0) + 1}


@functools.lru_cache(1024)
def short_name(arn: str) -> str:
    """A function as a lineage names it: short, and without colons."""
    return hashlib.sha256(arn.encode()).hexdigest()[:8]


def is_loop(lineage: Mapping[str, int], arn: str) -> bool:
    """Whether one more invoke of the function would be one too many in its chain."""
    return lineage.get(short_name(arn), 0) >= MOST_IN_CHAIN


def read_lineage(trace: str) -> dict[str, int]:
    """Function → times, from the trace header's Lineage ("hash:count|hash:count"); {} for anything else."""
    if "Lineage=" not in trace:
        return {}
    part = next((part for part in trace.split(";") if part.startswith("Lineage=")), "")
    found: dict[str, int] = {}
    for entry in part.removeprefix("Lineage=").split("|")[:_MOST_FUNCTIONS]:
        name, _, count = entry.partition(":")
        if name and count.isascii() and count.isdigit() and len(count) < 6:
            found[name] = int(count)
    return found


def write_lineage(trace: str, lineage: Mapping[str, int]) -> str:
    """The trace header with this Lineage in place of any other."""
    parts = [part for part in trace.split(";") if part and not part.startswith("Lineage=")]
    if lineage:
        parts.append("Lineage=" + "|".join(f"{name}:{count}" for name, count in lineage.items()))
    return ";".join(parts)


def extend_trace(trace: str, arn: str) -> str:
    """The trace header that one more invoke of a function gets."""
    if "Lineage=" not in trace:
        return f"{trace};Lineage={short_name(arn)}:1"
    return write_lineage(trace, extend_lineage(read_lineage(trace), arn))


def join_traces(traces: Iterable[str]) -> str:
    """Of messages that are worked on together: the first one's, with the longest chain of each function. "" for none."""
    first, lineage = "", dict[str, int]()
    for trace in traces:
        first = first or trace
        for name, count in read_lineage(trace).items():
            lineage[name] = max(count, lineage.get(name, 0))
    return write_lineage(first, lineage)


def recursive() -> ApiError:
    """What a caller gets whose chain has come too far."""
    message = (
        "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources "
        "and stopped your function's invocation."
    )
    return ApiError("RecursiveInvocationException", message)
