"""Whatever is done to a configuration, it is read, or refused with mistakes that name their keys: 10,000 of them.

Each is made from its own seed, so that one that fails is made again by its number alone. What is done goes by the
structure: keys dropped, renamed, doubled, moved; values of other types, huge, nested; YAML's anchors, bombs and tags;
bytes that are no UTF-8.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamtrain.config import SECTIONS, Config, ConfigError, load, parse, to_dict
from streamtrain.config.keys import keys_of

BASE = Path("/etc/streamtrain")
N_BATCHES, N_EACH = 20, 500
NAMES = sorted({*SECTIONS, *(name for cls in SECTIONS.values() for name in keys_of(cls))})
WORDS = ["", "10m", "1MiB", "off", "keep", "~x", "/", ".", "127.0.0.1:1", "1e9", "\x1b[0m", "a" * 300, "yes", "é\u2028"]
NUMBERS = [0, 1, -1, 2**31, 2**63, 10**40, -(10**40), 0.5, 1e308, -1e-320, float("inf"), float("-inf"), float("nan")]
Mutation = Callable[[random.Random, dict[str, Any]], None]


@cache
def defaults() -> str:
    """Every key with its default, as `check` prints it."""
    return json.dumps(to_dict(parse("logs: {directory: in}", BASE)))


def some_sections(chance: random.Random) -> dict[str, Any]:
    """Some keys of some sections, so that each is read quickly and all of them have their turn."""
    document = json.loads(defaults())
    chosen: dict[str, Any] = {"logs": {"directory": "in"}}
    for section in chance.sample([*SECTIONS], chance.randrange(1, 3)):
        body = document.get(section) or {}
        keys = chance.sample([*body], min(len(body), chance.randrange(1, 4)))
        chosen[section] = chosen.get(section, {}) | {key: body[key] for key in keys}
    return chosen


def some_value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(8 if depth < 4 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return chance.random() < 0.5
    if kind == 2:
        return chance.choice(NUMBERS)
    if kind == 3:
        return chance.choice(WORDS)
    if kind == 4:
        return "".join(chr(chance.choice([9, 58, 123, 0x7F, 0xE9, 0x4E2D, 0x1F600, 32, 97])) for _ in range(5))
    if kind == 5:
        return [some_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    names = [chance.choice([*NAMES, "field", "dim", "url", "x", "0"]) for _ in range(chance.randrange(4))]
    return {name: some_value(chance, depth + 1) for name in names}


def mappings(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = [document]
    for value in document.values():
        if isinstance(value, dict):
            found += mappings(value)
    return [one for one in found if one]


def drop(chance: random.Random, document: dict[str, Any]) -> None:
    place = chance.choice(mappings(document))
    del place[chance.choice([*place])]


def rename(chance: random.Random, document: dict[str, Any]) -> None:
    place = chance.choice(mappings(document))
    key = chance.choice([*place])
    at = chance.randrange(len(key) + 1)
    new = chance.choice([key[:at] + chance.choice("x_é 9") + key[at:], key[:at] + key[at + 1 :], key.upper(), "?"])
    place[new or "x"] = place.pop(key)


def move(chance: random.Random, document: dict[str, Any]) -> None:
    source, target = chance.choice(mappings(document)), chance.choice(mappings(document))
    key = chance.choice([*source])
    target[key] = json.loads(json.dumps(source[key]))


def retype(chance: random.Random, document: dict[str, Any]) -> None:
    place = chance.choice(mappings(document))
    place[chance.choice([*place])] = some_value(chance)


def huge(chance: random.Random, document: dict[str, Any]) -> None:
    place = chance.choice(mappings(document))
    n = chance.choice([100, 3000, 5000])
    value = [10**n if n < 4000 else "9" * n, "x" * n, list(range(60)), {f"k{i}": i for i in range(8)}]
    place[chance.choice([*place])] = chance.choice(value)


def nest(chance: random.Random, document: dict[str, Any]) -> None:
    value: Any = some_value(chance)
    for _ in range(chance.choice([2, 8, 14, 15, 16, 17, 40])):
        value = [value] if chance.random() < 0.5 else {chance.choice(NAMES): value}
    place = chance.choice(mappings(document))
    place[chance.choice([*place])] = value


STRUCTURAL: list[Mutation] = [drop, rename, move, retype, retype, retype, huge, nest]


def text_mutation(chance: random.Random, text: str) -> str | bytes:
    """What only the text can have: other YAML, other encodings, torn places."""
    key = chance.choice(NAMES)
    at = chance.randrange(len(text) + 1)
    lines = text.splitlines()
    line = chance.randrange(len(lines))
    match chance.randrange(14):
        case 0:
            return f"{text}\n{key}: &a {{directory: x}}\nmodels: *a\n"
        case 1:
            bomb = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'lol'}]\n" for i in range(9))
            return bomb + text
        case 2:
            tag = chance.choice(["!!python/object/apply:os.system", "!!binary", "!x", "!!set", "!!int", "!<tag:x,1:y>"])
            return f"{text}\n{key}: {tag} ['true']\n"
        case 3:
            return f"{text}\n<<: {{directory: x}}\n"
        case 4:
            return "\n".join([*lines[: line + 1], lines[line], *lines[line + 1 :]])
        case 5:
            return "\n".join([*lines[:line], chance.choice(["\t", " ", "    ", "- ", "? "]) + lines[line]])
        case 6:
            return text[:at] + chance.choice(
                ["\x00", "\ufeff", "\x85", "{", "]", "'", '"', "|", "%", "@", "`", "---\n"]
            )
        case 7:
            return text[:at] + chance.choice(WORDS) + text[at + chance.randrange(5) :]
        case 8:
            return text.encode(chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]))
        case 9:
            data = text.encode()
            return data[:at] + bytes([chance.randrange(256)]) * chance.randrange(1, 4) + data[at:]
        case 10:
            return f"{text}---\n{text}"
        case 11:
            return f'{text}\n"\\ud800": {key}\n'
        case 12:
            return f"{text}\n? [{key}, {key}]\n: {key}\n"
        case _:
            return "[" * chance.choice([5, 20, 200]) + text


def mutated(seed: int) -> str | bytes:
    chance = random.Random(seed)
    document = some_sections(chance)
    for _ in range(chance.choice([1, 1, 2, 4])):
        if mappings(document):
            chance.choice(STRUCTURAL)(chance, document)
    text = json.dumps(document) if chance.random() < 0.8 else yaml.safe_dump(document, sort_keys=False)
    return text_mutation(chance, text) if chance.random() < 0.3 else text


def read_or_refused(text: str | bytes, folder: Path) -> str:
    """Read it by way of a file; what came of it."""
    file = folder / "c.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    mistakes = None
    try:
        config = load(file)
    except ConfigError as error:
        mistakes = error.mistakes
    if mistakes is None:
        assert isinstance(config, Config)
        return "read"
    assert mistakes
    for mistake in mistakes:
        assert mistake.key
        assert mistake.expected
        assert str(mistake).isprintable()
        assert len(str(mistake)) < 2000
    return "the file" if all(mistake.key == "the file" for mistake in mistakes) else "a key"


@pytest.mark.parametrize("batch", range(N_BATCHES))
def test_mutated_configurations(batch: int, tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for seed in range(batch * N_EACH, (batch + 1) * N_EACH):
        try:
            found[read_or_refused(mutated(seed), tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"mutated({seed})") from error
    # Neither all refused at the door nor all let in: what is done gets as far as the checks of values.
    assert found["read"] > 0, found
    assert found["a key"] > 0.4 * N_EACH, found
    assert found["the file"] > 0.03 * N_EACH, found


@pytest.mark.parametrize("section", SECTIONS)
def test_a_wrong_value_of_each_key_is_refused_under_its_own_name(section: str) -> None:
    document = {"logs": {"directory": "in"}}
    for name in keys_of(SECTIONS[section]):
        for wrong in ({"no": {"such": "thing"}}, [[[["x"]]]]):
            changed = document | {section: document.get(section, {}) | {name: wrong}}
            with pytest.raises(ConfigError) as refused:
                parse(json.dumps(changed), BASE)
            keys = [mistake.key for mistake in refused.value.mistakes]
            assert any(key == f"{section}.{name}" or key.startswith(f"{section}.{name}.") for key in keys), keys


@pytest.mark.parametrize("section", SECTIONS)
def test_a_misspelt_key_is_named_and_the_right_one_suggested(section: str) -> None:
    for name in keys_of(SECTIONS[section]):
        wrong = f"{name}x"
        body = {wrong: 1} | ({"directory": "in"} if section == "logs" else {})
        with pytest.raises(ConfigError) as refused:
            parse(json.dumps({"logs": {"directory": "in"}, section: body}), BASE)
        (mistake,) = [one for one in refused.value.mistakes if one.key == f"{section}.{wrong}"]
        assert name in str(mistake)
