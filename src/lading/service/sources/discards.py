"""Tells a mapping's destination of records that are given up."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lading.service.clock import Clock
from lading.service.control.names import Scope
from lading.service.queue.event import Delivery
from lading.service.sources.mapping import SourceMapping
from lading.service.sources.stream_records import Discarded, failure_record, make_event, object_key
from lading.service.sources.stream_rules import backoff

TRIES = 5
"""For a message; then it is given up, with a line in the service's log."""
Put = Callable[[Scope, Delivery, str], Awaitable[None]]
"""A message into a queue, a topic, or a bucket, as the object of that key."""
log = logging.getLogger("lading.service")


@dataclass(frozen=True)
class Discards:
    """Blocks a shard until its destination has taken the message, or has refused it often enough."""

    put: Put
    clock: Clock

    async def tell(self, mapping: SourceMapping, shard: str, discarded: Discarded) -> None:
        arn = mapping.settings["DestinationConfig"].get("OnFailure", {}).get("Destination")
        if not arn:
            return
        now = self.clock.now()
        record = failure_record(mapping, shard, discarded, str(uuid.uuid4()), now)
        if arn.split(":")[2] == "s3":
            record["payload"] = make_event(discarded.records).decode()
        delivery = Delivery(arn, "record", json.dumps(record, separators=(",", ":")))
        key = object_key(mapping, shard, str(uuid.uuid4()), now)
        for tried in range(TRIES):
            try:
                await self.put(mapping.scope, delivery, key)
                return
            except Exception as error:
                if tried + 1 == TRIES:
                    log.error(
                        "the record of %d discarded records for %s is given up: %s", len(discarded.records), arn, error
                    )
                else:
                    await self.clock.wait_until(self.clock.now() + backoff(tried))
