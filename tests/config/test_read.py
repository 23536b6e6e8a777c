from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamtrain.config import SECTIONS, Config, ConfigError, LogsSection, load, parse, to_dict
from streamtrain.config.keys import Key, keys_of
from streamtrain.ingest.schema import TRAJECTORY, Schema, VectorField

BASE = Path("/etc/streamtrain")
KEYS = [(section, key) for section, cls in SECTIONS.items() for key in keys_of(cls).values()]


def mistakes_of(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, BASE)
    return {mistake.key: str(mistake) for mistake in caught.value.mistakes}


def with_logs(text: str) -> str:
    return "logs: {directory: logs}\n" + text


def test_the_logs_directory_is_the_only_required_key() -> None:
    assert parse("logs: {directory: logs}", BASE) == Config(
        logs=LogsSection(directory=BASE / "logs"),
        state=replace(Config(logs=LogsSection(directory=BASE)).state, directory=BASE / "state"),
        models=replace(Config(logs=LogsSection(directory=BASE)).models, directory=BASE / "models"),
    )
    assert mistakes_of("") == {"logs.directory": "logs.directory: expected a path (this key is required)"}


def test_given_values_are_typed() -> None:
    config = parse(
        """
        logs: {directory: /var/log/router, include: ["*.jsonl"], max_line: 8MiB}
        dataset: {window: 5e4, max_age: 30d, holdout: 0.3}
        trigger: {max_interval: 90}
        gate: {min_accuracy: 0, versus_current: off, beat_baseline: false}
        training: {learning_rate: 1e-3, epochs: 40, preset: large}
        status: {listen: null}
        """,
        BASE,
    )
    assert config.logs.directory == Path("/var/log/router")
    assert config.logs.include == ("*.jsonl",)
    assert config.logs.max_line_bytes == 8 * 2**20
    assert (config.dataset.window, config.dataset.max_age_s, config.dataset.holdout) == (50_000, 30 * 86400.0, 0.3)
    assert type(config.dataset.window) is int
    assert config.trigger.max_interval_s == 90.0
    assert (config.gate.min_accuracy, config.gate.versus_current, config.gate.beat_baseline) == (0.0, "off", False)
    assert (config.training.learning_rate, config.training.epochs, config.training.batch_size) == (0.001, 40, None)
    assert config.status.listen is None


def test_sections_may_be_left_empty() -> None:
    assert parse(with_logs("gate:\ntraining:\n"), BASE) == parse(with_logs(""), BASE)


def test_relative_paths_start_at_the_files_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("logs: {directory: in}\nstate: {directory: ../st}\nmodels: {directory: /srv/models}\n")
    monkeypatch.chdir(tmp_path)
    config = load(Path("a.yaml"))
    assert config.logs.directory == tmp_path / "in"
    assert config.state.directory == tmp_path / "../st"
    assert config.models.directory == Path("/srv/models")


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/router")
    assert parse("logs: {directory: ~/logs}", BASE).logs.directory == Path("/home/router/logs")
    assert "home" in mistakes_of("logs: {directory: ~nobody-of-this-name/logs}")["logs.directory"]


def test_a_schema_of_named_features() -> None:
    config = parse(with_logs("schema: {features: [a, b], label: ok, id: null, session: s, teacher: t}"), BASE)
    assert config.schema == Schema(features=("a", "b"), label="ok", id=None, session="s", teacher="t")


def test_a_schema_of_one_array() -> None:
    config = parse(with_logs("schema: {features: {field: embedding, dim: 384}}"), BASE)
    assert config.schema == Schema(features=VectorField("embedding", 384))
    assert len(config.schema.feature_names) == 384


def test_the_ready_made_schema_can_be_written_out() -> None:
    text = """schema:
      features: {field: embedding, dim: 384}
      timestamp: ts
      id: null
      scores: scores
      prices: {haiku: 1, sonnet: 3, opus: 5}
      quality: quality
      model: model
      join: {}
    """
    assert parse(with_logs(text), BASE).schema == parse(with_logs("schema: trajectory"), BASE).schema == TRAJECTORY


def test_mistakes_in_a_nested_mapping_are_named() -> None:
    found = mistakes_of(with_logs("schema: {features: {feld: embedding, dim: 0}}"))
    assert set(found) == {"schema.features.feld", "schema.features.field", "schema.features.dim"}
    assert "did you mean field?" in found["schema.features.feld"]


def test_all_mistakes_come_in_one_go_in_order_with_their_lines() -> None:
    text = """
logs: {max_line: 3 parsecs, dirctory: x}
gate:
  min_accuracy: "0.85"
  confidence: 95
  beat_baseline: yes
trigger: {min_samples: 2.5, max_interval: 0, min_auc: 3}
gates: {}
dataset: [1]
router: {input_scale: [1, 2, a]}
state: {directory: 7}
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, BASE, Path("/etc/streamtrain/x.yaml"))
    mistakes = caught.value.mistakes
    assert [(mistake.line, mistake.key) for mistake in mistakes] == [
        (None, "logs.directory"),
        (2, "logs.dirctory"),
        (2, "logs.max_line"),
        (4, "gate.min_accuracy"),
        (5, "gate.confidence"),
        (6, "gate.beat_baseline"),
        (7, "trigger.min_auc"),
        (7, "trigger.min_samples"),
        (7, "trigger.max_interval"),
        (8, "gates"),
        (9, "dataset"),
        (10, "router.input_scale"),
        (11, "state.directory"),
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == "/etc/streamtrain/x.yaml: 13 mistakes"
    assert lines[4] == "  line 4: gate.min_accuracy = '0.85': expected a number in 0..1 (write it without quotes)"
    hints = {mistake.key: mistake.hint for mistake in mistakes}
    assert hints["logs.dirctory"] == "did you mean directory?"
    assert hints["gates"] == "did you mean gate?"
    assert hints["trigger.min_auc"] == "min_auc belongs in gate"
    assert hints["router.input_scale"] == "look at item 3"


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[f"{section}.{key.name}" for section, key in KEYS])
@pytest.mark.parametrize("wrong", ["[[]]", "{x: 1}", "-1", ".nan", "1e400", "12345678901234567890123"])
def test_a_wrong_value_names_its_key_and_no_other(section: str, key: Key, wrong: str) -> None:
    name = f"{section}.{key.name}"
    text = f"{section}:\n  {key.name}: {wrong}\n"
    if section != "logs":
        text = with_logs(text)
    elif key.name != "directory":
        text += "  directory: logs\n"
    found = mistakes_of(text)
    # A mapping in place of a list of features is read as an array field, and its own keys are named.
    assert {found_key for found_key in found if not found_key.startswith(f"{name}.")} in ({name}, set())
    assert found


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("models: {directory: logs/models}", "models.directory", "outside logs.directory"),
        ("state: {directory: ./logs}", "state.directory", "outside logs.directory"),
        ("state: {directory: same}\nmodels: {directory: x/../same}", "models.directory", "another directory"),
        ("schema: {features: [a, b, a]}", "schema.features", "every feature once"),
        ("schema: {features: [a, b], label: b}", "schema.label", "not a feature"),
        ("schema: {features: {field: e, dim: 3}, timestamp: e}", "schema.timestamp", "not a feature"),
        ("schema: {weight: w, propensity: w}", "schema.propensity", "another field than schema.weight"),
        ("model: {sequence_length: 4}", "model.sequence_length", "schema.session set"),
        ("training: {teacher: column}", "training.teacher", "schema.teacher set"),
        ("router: {input_scale: [1, 2]}", "router.input_scale", "one number per feature (5)"),
        ("dataset: {window: 500}\ngate: {min_holdout: 50}", "trigger.min_samples", "at most dataset.window (500)"),
        ("trigger: {min_per_class: 50000}", "trigger.min_per_class", "(40000)"),
        ("gate: {min_holdout: 18001}", "gate.min_holdout", "(18000)"),
        ("status: {listen: '127.0.0.1:70000'}", "status.listen", "0..65535"),
        ("logs: {directory: logs, after_ingest: archive}", "logs.archive", "a directory"),
        ("logs: {directory: logs, archive: logs/old}", "logs.archive", "outside logs.directory"),
        ("publish: {hooks: [[bin/tell, router]]}", "publish.hooks", "absolute path"),
        ("publish: {hooks: [systemctl]}", "publish.hooks", "each a list of words"),
        ("publish: {webhooks: [{url: 'ftp://a/b', secret_env: S}]}", "publish.webhooks", "url, secret_file"),
        ("publish: {webhooks: [{url: 'http://me:word@a/b', secret_env: S}]}", "publish.webhooks", "url, secret_file"),
        ("publish: {webhooks: [{url: 'http://a:99999/b', secret_env: S}]}", "publish.webhooks", "http://HOST"),
        ("publish: {webhooks: [{url: 'http://a/b'}]}", "publish.webhooks", "either secret_file or secret_env"),
        ("publish: {webhooks: [{url: 'http://a', secret_env: S, secret_file: s}]}", "publish.webhooks", "either"),
        ("publish: {webhooks: [{url: 'http://a', secret: s}]}", "publish.webhooks", "url, secret_file"),
        ("schema: trajectories", "schema", "or trajectory"),
        ("schema: {scores: s}", "schema.prices", "the price of each model"),
        ("schema: {prices: {a: 1}}", "schema.prices", "schema.scores or schema.quality set"),
        ("schema: {quality: q, prices: {a: 1}}", "schema.quality", "schema.model and schema.join set"),
        ("schema: {join: {key: id, kind: id}}", "schema.join.kind", "another field than schema.join.key"),
        ("schema: {join: {outcome: decision}}", "schema.join.outcome", "another value"),
        ("schema: {join: {key: label}, label: label}", "schema.join.key", "no other meaning"),
    ],
)
def test_keys_that_contradict_each_other(text: str, key: str, expected: str) -> None:
    found = mistakes_of(text if text.startswith("logs") else with_logs(text))
    assert list(found) == [key]
    assert expected in found[key]


@pytest.mark.parametrize(
    "text",
    [
        "schema: {id: request, session: request}",
        "publish: {hooks: [[systemctl, reload, router]], hook_timeout: 1m, signing_key: k, public_key: /k.pub}",
        "publish: {webhooks: [{url: 'https://a.b/x?y=z', secret_file: s}, {url: 'http://[::1]:80', secret_env: S}]}",
        "schema: trajectory",
        "schema: {features: {field: embedding, dim: 3}, scores: scores, prices: {small: 1, large: 25}}",
        "schema: {session: s}\nmodel: {sequence_length: 8}",
        "schema: {teacher: t}\ntraining: {teacher: column}",
        "router: {input_scale: [0.4, 0.2, 0.15, 0.15, 0.1]}",
        "models: {directory: logs-models}",
        "status: {listen: 'unix:/run/streamtrain/status.sock'}",
        "status: {listen: '[::1]:9155'}",
        "gate: {min_holdout: 18000}",
    ],
)
def test_what_goes_together(text: str) -> None:
    parse(with_logs(text), BASE)


def test_no_rule_about_two_keys_while_one_is_wrong_by_itself() -> None:
    assert list(mistakes_of("logs: {directory: 7}\nstate: {directory: logs}")) == ["logs.directory"]
    assert list(mistakes_of(with_logs("dataset: 3\ngate: {min_holdout: 50000}"))) == ["dataset"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: {features: {field: e, dim: 48}, session: s, timestamp: null, weight: w}",
        "dataset: {max_age: 36h, seed: 7}\ntrigger: {max_interval: 1.5s}",
        "training: {learning_rate: 1.0e-3, enable_distillation: false}\nrouter: {input_scale: [1, 2, 3, 4, 5]}",
        "status: {listen: null}\ngate: {versus_current: off}",
        "schema: trajectory",
        "schema: {scores: s, prices: {b: 1, a: 2}, quality: q, model: m, join: {key: k, max_age: 2h}}",
    ],
)
def test_a_configuration_survives_json(text: str) -> None:
    config = parse(with_logs(text), BASE)
    written = json.dumps(to_dict(config))
    assert parse(written, Path("/elsewhere")) == config


def test_load_names_what_cannot_be_read(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.path == path
        assert len(caught.value.mistakes) == 1
        return str(caught.value)

    assert "No such file" in problem(tmp_path / "missing.yaml")
    assert "Is a directory" in problem(tmp_path)
    file = tmp_path / "x.yaml"
    file.write_bytes(b"logs:\n  directory: \xff\n")
    assert "line 2" in problem(file)
    assert "UTF-8" in problem(file)
    file.write_bytes(b"#" * (2**20 + 1))
    assert "1 MiB" in problem(file)
    file.write_bytes(b"a: [1\n")
    assert f"{file}: 1 mistake\n  line 2: the file: expected plain YAML" in problem(file)


def test_load_takes_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbflogs:\r\n  directory: in\r\n")
    assert load(file).logs.directory == tmp_path / "in"


def test_messages_show_no_terminal_escapes_and_no_endless_values() -> None:
    text = with_logs('"gate\\e[31m": 1\nmodel: {nu: "\\e]0;x\\a"}\nschema: {label: [' + "x, " * 10_000 + "x]}")
    with pytest.raises(ConfigError) as caught:
        parse(text, BASE)
    shown = str(caught.value)
    assert len(caught.value.mistakes) == 3
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert len(shown) < 2000
