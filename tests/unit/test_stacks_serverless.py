"""SAM's transform where its translator isn't installed."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from lading.service.contract.errors import ApiError
from lading.service.control.names import Scope
from lading.service.neighbours.neighbours import Neighbours
from lading.service.stacks.serverless import expand_serverless
from lading.service.stacks.site import Services, Site


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "samtranslator.model.exceptions", None)  # as if it weren't there
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        services = Services({}, Neighbours(), lambda account: (account, ""), loop)
        site = Site(services, Scope("000000000000", "eu-west-1"), "", {})
        with pytest.raises(ApiError, match=r"pip install 'lading\[sam\]'"):
            expand_serverless(site, {"Resources": {}}, {})
