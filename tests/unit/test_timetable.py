"""When schedule expressions are due, by the examples of AWS's guides and at the edges of months and of summer time."""

from __future__ import annotations

import datetime as dt

import pytest

from lading.model.timetable import read_timetable

BEGIN = dt.datetime(2026, 11, 26, 18, tzinfo=dt.UTC).timestamp()


def due(expression: str, begin: float = BEGIN, zone: str = "UTC", times: int = 3) -> list[str]:
    timetable, at, found = read_timetable(expression, begin, zone), begin, []
    for _ in range(times):
        following = timetable.after(at)
        if following is None:
            break
        at = following
        found.append(dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(5 minutes)", ["2026-11-26 18:05", "2026-11-26 18:10", "2026-11-26 18:15"]),
        ("rate(1 day)", ["2026-11-27 18:00", "2026-11-28 18:00", "2026-11-29 18:00"]),
        ("at(2026-12-01T06:00:00)", ["2026-12-01 06:00"]),
        ("at(2026-11-26T18:00:00)", []),
        ("cron(15 10 * * ? *)", ["2026-11-27 10:15", "2026-11-28 10:15", "2026-11-29 10:15"]),
        ("cron(0/15 * * * ? *)", ["2026-11-26 18:15", "2026-11-26 18:30", "2026-11-26 18:45"]),
        ("cron(0 18 ? * mon-FRI *)", ["2026-11-27 18:00", "2026-11-30 18:00", "2026-12-01 18:00"]),
        ("cron(0/30 20-23/2 ? * 2 *)", ["2026-11-30 20:00", "2026-11-30 20:30", "2026-11-30 22:00"]),
        ("cron(0 8 1 * ? *)", ["2026-12-01 08:00", "2027-01-01 08:00", "2027-02-01 08:00"]),
        ("cron(0 0 L * ? *)", ["2026-11-30 00:00", "2026-12-31 00:00", "2027-01-31 00:00"]),
        ("cron(0 0 LW JAN,FEB ? *)", ["2027-01-29 00:00", "2027-02-26 00:00", "2028-01-31 00:00"]),
        ("cron(0 0 1W * ? 2027)", ["2027-01-01 00:00", "2027-02-01 00:00", "2027-03-01 00:00"]),
        ("cron(0 0 1W 5 ? *)", ["2027-05-03 00:00", "2028-05-01 00:00", "2029-05-01 00:00"]),
        ("cron(0 0 31W 5 ? 2026-2030)", ["2027-05-31 00:00", "2028-05-31 00:00", "2029-05-31 00:00"]),
        ("cron(0 0 ? * 6#3 *)", ["2026-12-18 00:00", "2027-01-15 00:00", "2027-02-19 00:00"]),
        ("cron(0 0 ? * FRIL *)", ["2026-11-27 00:00", "2026-12-25 00:00", "2027-01-29 00:00"]),
        ("cron(0 0 ? * L *)", ["2026-11-28 00:00", "2026-12-05 00:00", "2026-12-12 00:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
        ("cron(0 0 30 2 ? *)", []),
        ("cron(0 0 1 1 ? 2025)", []),
    ],
)
def test_times(expression: str, expected: list[str]) -> None:
    assert due(expression) == expected


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (
            dt.datetime(2026, 3, 28, tzinfo=dt.UTC),
            ["2026-03-28 01:30", "2026-03-30 00:30"],
        ),  # 2:30 isn't there on the 29th
        (dt.datetime(2026, 10, 24, tzinfo=dt.UTC), ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
    ],
)
def test_summer_time(begin: dt.datetime, expected: list[str]) -> None:
    assert due("cron(30 2 * * ? *)", begin.timestamp(), "Europe/Berlin", len(expected)) == expected


def test_a_rate_counts_from_its_beginning() -> None:
    timetable = read_timetable("rate(1 hour)", BEGIN)
    assert [timetable.after(BEGIN + at) for at in (-5000, -1, 0, 3599, 3600)] == [
        BEGIN, BEGIN, BEGIN + 3600, BEGIN + 3600, BEGIN + 7200,
    ]  # fmt: skip


def test_a_zone_that_is_none() -> None:
    with pytest.raises(LookupError):
        read_timetable("cron(0 0 * * ? *)", BEGIN, "Middle/Earth")
