"""docs/configuration.md and config/streamtrain.yaml say what the code does, key by key."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from streamtrain.config import SECTIONS, Config, LogsSection, load
from streamtrain.config.keys import keys_of, written
from streamtrain.config.text import read_text
from streamtrain.train.presets import PRESETS, TrainingConfig

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "streamtrain.yaml"
PAGE = (ROOT / "docs" / "configuration.md").read_text()


def table(section: str) -> str:
    """Return the table of a section's keys as it must stand in docs/configuration.md."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(SECTIONS[section]).values():
        default = "(required)" if key.required else f"`{json.dumps(written(key, key.default))}`"
        rows.append(f"| `{section}.{key.name}` | {key.expected} | {default} | {key.meaning} |")
    return "\n".join(rows)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_the_table_of_every_section(section: str) -> None:
    expected = table(section)
    assert expected in PAGE, f"in docs/configuration.md, replace the table of {section} by:\n{expected}"


PRESET_KEYS = [name for name, key in keys_of(SECTIONS["training"]).items() if key.default is None]


@pytest.mark.parametrize("name", PRESET_KEYS)
def test_the_page_has_what_each_preset_fills_in(name: str) -> None:
    values = [json.dumps(getattr(preset, name)) for preset in PRESETS.values()]
    expected = f"| `{name}` | {' | '.join(values)} |"
    assert expected in PAGE, f"in docs/configuration.md, the table of presets must have the row:\n{expected}"


def test_every_null_of_training_is_filled_in_by_the_presets() -> None:
    assert set(PRESET_KEYS) <= set(asdict(TrainingConfig()))


def test_the_shipped_file_has_every_key_with_its_default() -> None:
    document: Any = read_text(SHIPPED.read_text()).value
    assert list(document) == [*SECTIONS]
    for section, cls in SECTIONS.items():
        assert list(document[section]) == [*keys_of(cls)], section
        for key in keys_of(cls).values():
            if not key.required:
                assert document[section][key.name] == written(key, key.default), f"{section}.{key.name}"


def test_the_shipped_file_is_the_default_configuration() -> None:
    default = Config(logs=LogsSection(directory=Path("/var/log/router")))
    read = load(SHIPPED)
    for section in ("logs", "schema", "dataset", "model", "training", "trigger", "gate", "router", "publish", "status"):
        assert getattr(read, section) == getattr(default, section)
    assert read.state.directory == SHIPPED.parent / "state"
    assert read.models.directory == SHIPPED.parent / "models"
