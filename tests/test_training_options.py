"""Every training option of the configuration reaches the published model: each test fails if its key is ignored."""

import json

import numpy as np
import pytest
from simulated_logs import lines, rows, write_config

from streamtrain import FastGRNN, FastGRNNConfig
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.lessons import TeacherError
from streamtrain.model.prune import sparsity
from streamtrain.model.quantize import dequantize

BASE = "gate: {min_accuracy: 0.6, versus_current: 'off'}\n"


def learned(folder, text, records=None):
    """Train once under `text` in a fresh folder and return the published champion and its receipt."""
    folder.mkdir()
    config = write_config(folder, BASE + text)
    (folder / "logs" / "a.jsonl").write_bytes(lines(rows(2500) if records is None else records))
    with Cycle(load(config)) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        assert decision.outcome == "published", decision.reason
        receipt = json.loads((folder / "models" / "receipts.jsonl").read_text().splitlines()[-1])
        return cycle.registry.load(), receipt


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return learned(tmp_path_factory.mktemp("plain") / "a", "training: {learning_rate: 0.005, l2_reg: 0.0001}")


def same(one, other):
    return np.array_equal(one.params.w_update, other.params.w_update)


def test_the_same_configuration_gives_the_same_bits(tmp_path, plain):
    again, _ = learned(tmp_path / "a", "training: {learning_rate: 0.005, l2_reg: 0.0001}")
    assert same(again, plain[0])


@pytest.mark.parametrize(
    "setting",
    [
        "batch_size: 64",
        "epochs: 1",
        "validation_split: 0.4",
        "early_stopping_patience: 1",
        "lr_decay: 0.1, lr_decay_step: 1",
        "grad_clip: 0.01",
        "adam_beta1: 0.5",
        "adam_beta2: 0.9",
        "adam_epsilon: 0.01",
        "l2_reg: 0.05",
        "learning_rate: 0.0005",
    ],
)
def test_a_setting_changes_what_is_learned(tmp_path, plain, setting):
    given = {"learning_rate: 0.005": "learning_rate", "l2_reg: 0.0001": "l2_reg"}
    rest = [text for text, key in given.items() if not setting.startswith(key)]
    champion, _ = learned(tmp_path / "a", f"training: {{{', '.join([setting, *rest])}}}")
    assert not same(champion, plain[0])
    for part in setting.split(", "):
        key, value = part.split(": ")
        assert champion.manifest["config"]["trained_with"][key] == float(value)


def test_epochs_bounds_their_number(tmp_path):
    _, receipt = learned(tmp_path / "a", "training: {epochs: 2}")
    assert {one["epochs"] for one in receipt["challengers"]} == {2}


def test_prune_reaches_the_int8_model_and_survives_fine_tuning(tmp_path):
    champion, _ = learned(tmp_path / "a", "training: {prune: 0.5}")
    assert sparsity(dequantize(champion.quantized)) >= 0.5
    log = tmp_path / "a" / "logs" / "a.jsonl"
    with log.open("ab") as more:
        more.write(lines(rows(1000, seed=5, first_id=2500)))
    with Cycle(load(tmp_path / "a" / "streamtrain.yaml")) as cycle:
        cycle.ingest()
        assert cycle.learn().outcome == "published"
        assert sparsity(dequantize(cycle.registry.load().quantized)) >= 0.5


def test_rank_bounds_the_rank_of_the_input_matrices(tmp_path):
    champion, _ = learned(tmp_path / "a", "model: {rank: 2}")
    assert np.linalg.matrix_rank(champion.params.w_update, tol=1e-4) == 2
    assert np.linalg.matrix_rank(champion.params.w_candidate, tol=1e-4) == 2


def test_quantization_aware_epochs_are_added(tmp_path):
    _, receipt = learned(tmp_path / "a", "training: {epochs: 3, quantization_aware_epochs: 2}")
    assert {one["epochs"] for one in receipt["challengers"]} == {5}


def test_hidden_dim_nu_zeta_reach_the_model(tmp_path):
    champion, _ = learned(tmp_path / "a", "model: {hidden_dim: 7, nu: 0.8, zeta: 1.2}")
    assert champion.config == FastGRNNConfig(5, 7, 1, 0.8, 1.2, None)


def test_a_teacher_column_is_learned_from(tmp_path, plain):
    # The teacher contradicts every label: with alpha 1 the student must follow the teacher.
    records = rows(2500)
    for row in records:
        row["judge"] = 0.05 if row["lightweight_successful"] else 0.95
    text = (
        "schema: {teacher: judge}\ntraining: {enable_distillation: true, distillation_alpha: 1.0, "
        "distillation_temperature: 1.0, epochs: 20, early_stopping_patience: 0}\n"
    )
    folder = tmp_path / "a"
    folder.mkdir()
    config = write_config(folder, text)
    (folder / "logs" / "a.jsonl").write_bytes(lines(records))
    with Cycle(load(config)) as cycle:
        cycle.ingest()
        decision = cycle.learn()
    assert decision.outcome == "rejected"
    assert decision.holdout_accuracy < 0.45


@pytest.mark.parametrize("teacher", ["trained", "file"])
def test_a_teacher_changes_what_is_learned(tmp_path, plain, teacher):
    if teacher == "file":
        FastGRNN(FastGRNNConfig(5, 24), seed=7).save(tmp_path / "teacher.safetensors")
        teacher = str(tmp_path / "teacher.safetensors")
    text = f"training: {{learning_rate: 0.005, l2_reg: 0.0001, enable_distillation: true, teacher: '{teacher}'}}"
    champion, _ = learned(tmp_path / "a", text)
    assert not same(champion, plain[0])


def test_a_teacher_file_of_another_width_is_refused_by_name(tmp_path):
    FastGRNN(FastGRNNConfig(3, 24)).save(tmp_path / "teacher.safetensors")
    text = f"training: {{enable_distillation: true, teacher: '{tmp_path / 'teacher.safetensors'}'}}"
    with pytest.raises(TeacherError, match="takes 3 features, the data has 5"):
        learned(tmp_path / "a", text)


def test_propensities_and_weights_count(tmp_path):
    # Half of the log says the opposite; whichever half weighs more is what is learned.
    records = rows(3000)
    for i, row in enumerate(records):
        flipped = i % 2 == 1
        row["lightweight_successful"] = row["lightweight_successful"] != flipped
        row["chance"] = 0.05 if flipped else 1.0
        row["weight"] = 1.0 if flipped else 0.05
    for number, schema in enumerate(("{propensity: chance}", "{weight: weight}")):
        champion, _ = learned(tmp_path / str(number), f"schema: {schema}\n", records)
        from streamtrain.router.load import load as load_model

        model = load_model(tmp_path / str(number) / "models")
        fresh = rows(1000, seed=9, noise=0.0, flipped=True)
        features = [[row[name] for name in champion.features] for row in fresh]
        labels = np.array([row["lightweight_successful"] for row in fresh])
        assert np.mean((model.score_batch(features) >= 0.5) == labels) > 0.8
