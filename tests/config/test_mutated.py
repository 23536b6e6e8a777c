"""Whatever is done to a configuration, it is read, or refused with mistakes that name their keys."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.config import SECTIONS, Config, ConfigError, parse
from streamtrain.config.keys import keys_of

BASE = Path("/etc/streamtrain")
PLAIN = (
    "logs: {directory: in}\ngate:\n  min_accuracy: 0.7 # floor\n  versus_current: off\nschema:\n  features: [a, 'b']\n"
)

NAMES = sorted({*SECTIONS, *(name for cls in SECTIONS.values() for name in keys_of(cls)), "field", "dim", "trajectory"})
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "10m", "1MiB", "off", "keep", "~x", "/", ".", "127.0.0.1:1", "1e9", "\x1b[0m", "a" * 300]),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def read_or_refused(text: str) -> None:
    mistakes = None
    try:
        config = parse(text, BASE)
    except ConfigError as error:
        mistakes = error.mistakes
    if mistakes is None:
        assert isinstance(config, Config)
        return
    assert mistakes
    for mistake in mistakes:
        assert mistake.key
        assert mistake.expected
        assert str(mistake).isprintable()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_values_under_any_keys(data: st.DataObject) -> None:
    document: dict[str, object] = {"logs": {"directory": "in"}}
    for name in data.draw(st.lists(st.sampled_from([*SECTIONS]), max_size=4)):
        keys = st.sampled_from([*keys_of(SECTIONS[name])]) | st.sampled_from(NAMES)
        document[name] = data.draw(st.dictionaries(keys, values, max_size=4) | values)
    read_or_refused(json.dumps(document))


@given(st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 4), st.text(max_size=3)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_edit_of_the_text(edits: list[tuple[int, int, str]]) -> None:
    text = PLAIN
    for at, n_deleted, inserted in edits:
        text = text[:at] + inserted + text[at + n_deleted :]
    read_or_refused(text)
