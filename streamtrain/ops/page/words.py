"""Figures and receipts as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

DASH = "–"
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_OUTCOMES = {
    "published": ("good", "Published {version}"),
    "rejected": ("refused", "A candidate was refused"),
    "skipped": ("quiet", "Nothing was trained"),
    "failed": ("bad", "A candidate could not be published"),
    "interrupted": ("bad", "{version} was complete, but never became current"),
}
_EVENTS = {
    "rollback": "Rolled back to {version}",
    "promote": "Promoted {version}",
    "pin": "Pinned {version}",
    "unpin": "Unpinned {version}",
    "damaged": "{version} was found damaged",
    "hearing": "A refused candidate was heard again and refused again",
}


def count(value: object) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) else DASH


def ratio(value: object) -> str:
    """Write a share of one, such as an accuracy."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else DASH


def number(value: object) -> str:
    """Write any number, shortly."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else DASH


def size(value: object) -> str:
    """Write a number of bytes in the unit that fits."""
    if not isinstance(value, (int, float)):
        return DASH
    amount, power = float(value), 0
    while amount >= 1024 and power < len(_UNITS) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:,.0f} {_UNITS[power]}" if power == 0 else f"{amount:.1f} {_UNITS[power]}"


def duration(value: object) -> str:
    """Write seconds in the unit that fits."""
    if not isinstance(value, (int, float)):
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if value < (172800 if unit == "h" else 120 * seconds):
            return f"{value / seconds:.0f} {unit}"
    return f"{value / 86400:.0f} days"


def moment(value: object) -> str:
    """Write a time (seconds since the epoch, or RFC 3339) in UTC, to the second."""
    if isinstance(value, (int, float)):
        try:
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError, OSError):
            return DASH
    if isinstance(value, str) and value:
        return value[:19].replace("T", " ") + (" UTC" if value.endswith("Z") else "")
    return DASH


def receipt(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Put a receipt into words.

    Parameters
    ----------
    entry : mapping
        Whatever a line of ``receipts.jsonl`` holds.

    Returns
    -------
    dict
        "tone" (good, refused, quiet, bad or plain), "title", "reason", "advice", "time", "who", "version" and "rules".
    """
    event, outcome, version = (str(entry.get(key) or "") for key in ("event", "outcome", "version"))
    if event == "candidate":
        tone, title = _OUTCOMES.get(outcome, ("plain", f"A candidate: {outcome or 'no outcome'}"))
    else:
        tone, title = "plain", _EVENTS.get(event, event.capitalize() or "Something without a name")
        if outcome == "failed":
            tone, title = "bad", f"{title}: it failed"
        if event == "damaged":
            tone = "bad"
    times = entry.get("times")
    who = str(entry.get("user") or "")
    if entry.get("sudo_user"):
        who = f"{entry['sudo_user']} as {who}"
    rules = entry.get("rules")
    return {
        "tone": tone,
        "title": title.replace("{version}", version or "a version"),
        "reason": str(entry.get("reason") or ""),
        "advice": str(entry.get("advice") or ""),
        "time": entry.get("time"),
        "who": who,
        "version": version,
        "times": times if isinstance(times, int) and times > 1 else None,
        "rules": [
            {"passed": rule.get("passed") is True, "text": str(rule.get("text") or rule.get("name"))}
            for rule in (rules if isinstance(rules, (list, tuple)) else [])
            if isinstance(rule, dict)
        ],
    }


def plain(value: object) -> str:
    """Show text with what a browser would not show, or would reorder, escaped as in Python."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))


def line(value: bytes, limit: int = 240) -> str:
    """Show the beginning of a log line."""
    text = plain(value[:limit].decode("utf-8", "backslashreplace"))
    return text + ("…" if len(value) > limit else "")
