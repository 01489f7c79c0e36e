"""EventBridge's schedule expressions, checked without asking AWS. Pure.

Sources: EventBridge user guide, "Setting a schedule pattern" (cron and rate expressions); EventBridge Scheduler user guide,
"Schedule types" (one-time schedules).
"""

from __future__ import annotations

import datetime as dt
import re

FIELDS = (
    ("minutes", 0, 59, ()),
    ("hours", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of week", 1, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
    ("year", 1970, 2199, ()),
)
_RATE = re.compile(r"rate\((\d{1,9}) (minute|minutes|hour|hours|day|days)\)")
_CRON = re.compile(r"cron\((.*)\)")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")


def schedule_problem(expression: str, *, once: bool = False) -> str:
    """What is wrong with an expression; empty when nothing is. `once`: at(…) is one too, as EventBridge Scheduler has it."""
    if once and (at := _AT.fullmatch(expression)):
        try:
            dt.datetime.fromisoformat(at[1])
        except ValueError as error:
            return str(error)
        return ""
    if rate := _RATE.fullmatch(expression):
        number, unit = int(rate[1]), rate[2]
        if number == 0:
            return "a rate is at least 1"
        if (number == 1) == unit.endswith("s"):
            return f"write rate({number} {unit.rstrip('s')}{'' if number == 1 else 's'})"
        return ""
    if cron := _CRON.fullmatch(expression):
        return _cron_problem(cron[1].split())
    words = "neither rate(VALUE UNIT) nor cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR)"
    return f"{words} nor at(YYYY-MM-DDTHH:MM:SS)" if once else words


def _cron_problem(fields: list[str]) -> str:
    if len(fields) != len(FIELDS):
        return f"a cron expression has six fields, not {len(fields)}"
    for (name, least, most, names), text in zip(FIELDS, fields, strict=True):
        if not all(_valid(part, name, (least, most), names) for part in text.split(",")):
            return f"{text!r} is no {name}: {least}–{most}{', ' + names[0] + '–' + names[-1] if names else ''}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "exactly one of day of month and day of week is ?"
    return ""


def _valid(part: str, name: str, bounds: tuple[int, int], names: tuple[str, ...]) -> bool:
    """1. ? and L, W, # where they may be 2. * 3. a value or range 4. either with a step."""
    days = name in ("day of month", "day of week")
    if days and part in ("?", "L"):
        return True
    if name == "day of month" and (part == "LW" or re.fullmatch(r"\d{1,2}W", part)):
        return part == "LW" or bounds[0] <= int(part[:-1]) <= bounds[1]
    if name == "day of week" and (match := re.fullmatch(r"(\w+)(?:#([1-5])|L)", part)):
        return _number(match[1], bounds, names) is not None
    base, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    if base == "*":
        return True
    first, dash, last = base.partition("-")
    begin, end = _number(first, bounds, names), _number(last, bounds, names) if dash else None
    return begin is not None and (not dash or (end is not None and begin <= end))


def _number(text: str, bounds: tuple[int, int], names: tuple[str, ...]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + 1
    return int(text) if text.isascii() and text.isdigit() and bounds[0] <= int(text) <= bounds[1] else None
