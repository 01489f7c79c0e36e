"""When a schedule expression is due. Pure; of expressions that `schedule_problem` finds nothing wrong with.

Sources: EventBridge user guide, "Setting a schedule pattern"; EventBridge Scheduler user guide, "Schedule types", which says what
happens when clocks are changed: a time that isn't there is left out, one that is there twice counts once.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from lading.model.schedule import FIELDS

_UNITS = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Rate:
    """A beginning, and every so many seconds from there on."""

    seconds: float
    begin: float

    def after(self, moment: float) -> float | None:
        return self.begin + self.seconds * max((moment - self.begin) // self.seconds + 1, 0)


@dataclass(frozen=True)
class Once:
    """at(…)."""

    moment: float

    def after(self, moment: float) -> float | None:
        return self.moment if self.moment > moment else None


@dataclass(frozen=True)
class Cron:
    """Six fields, in a time zone."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    month_days: str
    months: tuple[int, ...]
    week_days: str
    years: tuple[int, ...]
    zone: dt.tzinfo

    def after(self, moment: float) -> float | None:
        begin = dt.datetime.fromtimestamp(moment, self.zone).date()
        for day in self._days(begin):
            for hour in self.hours:
                for minute in self.minutes:
                    local = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
                    found = local.timestamp()
                    there = dt.datetime.fromtimestamp(found, self.zone)
                    if found > moment and (there.hour, there.minute) == (hour, minute):
                        return found
        return None

    def _days(self, begin: dt.date) -> Iterator[dt.date]:
        for year in self.years:
            for month in self.months:
                if (year, month) < (begin.year, begin.month):
                    continue
                for number in range(1, calendar.monthrange(year, month)[1] + 1):
                    day = dt.date(year, month, number)
                    if day >= begin and self._is_on(day):
                        yield day

    def _is_on(self, day: dt.date) -> bool:
        if self.week_days == "?":
            return any(_is_month_day(part, day) for part in self.month_days.split(","))
        return any(_is_week_day(part, day) for part in self.week_days.split(","))


Timetable = Rate | Once | Cron


def read_timetable(expression: str, begin: float, zone: str = "UTC") -> Timetable:
    """begin: when a rate begins to count. Raises ZoneInfoNotFoundError or ValueError for a zone that isn't one."""
    kind, _, text = expression.removesuffix(")").partition("(")
    if kind == "rate":
        number, unit = text.split()
        return Rate(int(number) * _UNITS[unit.removesuffix("s")], begin)
    place = dt.UTC if zone == "UTC" else ZoneInfo(zone)  # a machine may have no table of zones
    if kind == "at":
        return Once(dt.datetime.fromisoformat(text).replace(tzinfo=place).timestamp())
    minutes, hours, month_days, months, week_days, years = text.upper().split()
    return Cron(_set(minutes, 0), _set(hours, 1), month_days, _set(months, 3), week_days, _set(years, 5), place)


def _set(text: str, field: int) -> tuple[int, ...]:
    return tuple(sorted({number for part in text.split(",") for number in _span(part, field)}))


def _span(part: str, field: int) -> range:
    """The numbers of `*`, `a`, `a-b`, and each with `/step`; `a/step` goes on to the end."""
    _, least, most, _ = FIELDS[field]
    base, slash, step = part.partition("/")
    first, dash, last = base.partition("-")
    begin = least if base == "*" else _number(first, field)
    end = most if base == "*" or (slash and not dash) else _number(last, field) if dash else begin
    return range(begin, end + 1, int(step) if slash else 1)


def _number(text: str, field: int) -> int:
    names = FIELDS[field][3]
    return names.index(text) + 1 if text in names else int(text)


def _is_month_day(part: str, day: dt.date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if part == "L":
        return day.day == last
    if part == "LW":
        return day == _nearest_weekday(day.replace(day=last))
    if part.endswith("W"):
        return int(part[:-1]) <= last and day == _nearest_weekday(day.replace(day=int(part[:-1])))
    return day.day in _span(part, 2)


def _nearest_weekday(day: dt.date) -> dt.date:
    """Of the same month."""
    if day.weekday() < 5:
        return day
    back, ahead = (1, 2) if day.weekday() == 5 else (2, 1)
    nearer, other = (-back, ahead) if back < ahead else (ahead, -back)
    found = day + nearer * _DAY
    return found if found.month == day.month else day + other * _DAY


def _is_week_day(part: str, day: dt.date) -> bool:
    number = day.isoweekday() % 7 + 1  # Sunday is 1
    if part == "L":
        return number == 7
    if match := re.fullmatch(r"(\w+)#(\d)", part):
        return number == _number(match[1], 4) and (day.day + 6) // 7 == int(match[2])
    if part.endswith("L") and part[:-1]:
        return number == _number(part[:-1], 4) and (day + 7 * _DAY).month != day.month
    return number in _span(part, 4)
