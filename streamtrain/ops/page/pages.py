"""The templates, and what they may say of a value: everything is escaped unless it was written here."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from streamtrain.ops.page import words

FOLDER = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Open the templates."""
    pages = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    for name in ("count", "ratio", "number", "size", "duration", "moment", "plain", "line"):
        pages.filters[name] = getattr(words, name)
    pages.filters["figure"] = json.dumps
    pages.filters["segment"] = lambda text: quote(str(text), safe="")
    return pages
