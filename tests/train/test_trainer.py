"""The guide's library."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from kernel_run import shuffled_order
from reference import NAMES, Objective, logits, sigmoid, tensors_of, trained

from streamtrain import (
    FastGRNN,
    FastGRNNConfig,
    Trainer,
    TrainingConfig,
    TrainingDataset,
    generate_teacher_predictions,
)
from streamtrain.train.fit import epoch_key
from streamtrain.types import Arrays

CONFIG = FastGRNNConfig(5, 16)
TRAINING = TrainingConfig(
    learning_rate=0.01,
    epochs=4,
    early_stopping_patience=None,
    lr_decay=1.0,
    grad_clip=0.0,
    l2_reg=0.0,
    adam_epsilon=1e-6,
)


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 5))
    return x, (x[:, 0] + 0.3 * rng.normal(size=n) > 0.5).astype(float)


def test_dataset_keeps_its_own_float32_rows():
    x, y = rows()
    dataset = TrainingDataset(x.tolist(), y.tolist())
    assert len(dataset) == 200
    assert dataset.features.dtype == dataset.labels.dtype == np.float32
    np.testing.assert_array_equal(dataset.features, x.astype(np.float32))
    assert dataset.soft_targets is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[:0], y[:0]), "shape"),
        (lambda x, y: (x[:, 0], y), "shape"),
        (lambda x, y: (x, y[:-1]), "labels"),
        (lambda x, y: (np.where(np.arange(200)[:, None] == 7, np.nan, x), y), "row 7"),
        (lambda x, y: (np.where(np.arange(200)[:, None] == 9, np.inf, x), y), "row 9"),
        (lambda x, y: (np.where(np.arange(200)[:, None] == 9, 1e39, x), y), "row 9"),
        (lambda x, y: (x, np.where(np.arange(200) == 3, 1.5, y)), r"labels\[3\]"),
        (lambda x, y: (x, np.where(np.arange(200) == 3, np.nan, y)), r"labels\[3\]"),
    ],
)
def test_bad_rows_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        TrainingDataset(*change(*rows()))


def test_bad_soft_targets_are_refused():
    dataset = TrainingDataset(*rows())
    with pytest.raises(ValueError, match="soft_targets"):
        dataset.with_soft_targets(np.zeros(3))
    with pytest.raises(ValueError, match=r"soft_targets\[0\]"):
        dataset.with_soft_targets(np.full(200, 1.01))


def test_normalize_scores_in_place():
    x, y = rows()
    x[:, 2] = 0.7  # constant: std 1
    dataset = TrainingDataset(x, y)
    means, stds = dataset.normalize()
    assert means.dtype == stds.dtype == np.float64
    np.testing.assert_allclose(means, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.delete(stds, 2), np.delete(x.std(axis=0), 2), rtol=1e-6)
    assert stds[2] == 1
    np.testing.assert_allclose(dataset.features, (x - means) / stds, atol=1e-5)


@pytest.mark.parametrize(("share", "n_validation"), [(0.2, 40), (0.15, 30), (0.0, 0), (0.999, 199)])
def test_split_holds_back_its_share_of_every_row(share, n_validation):
    dataset = TrainingDataset(*rows())
    train, validation = dataset.split(share, seed=3)
    assert (len(train.labels), len(validation.labels)) == (200 - n_validation, n_validation)
    together = np.concatenate([train.features, validation.features])[:, 0]
    order = np.lexsort(together.T)
    np.testing.assert_array_equal(together[order], dataset.features[np.lexsort(dataset.features.T)])
    assert (train.weights == 1).all()
    again, _ = dataset.split(share, seed=3)
    np.testing.assert_array_equal(train.features, again.features)
    other, _ = dataset.split(share, seed=4)
    assert (train.features != other.features).any()


def test_validation_split_and_seed_reach_the_training():
    dataset = TrainingDataset(*rows())
    made = {}
    for name, share, seed in (("a", 0.2, 0), ("again", 0.2, 0), ("share", 0.4, 0), ("seed", 0.2, 1)):
        model = FastGRNN(CONFIG)
        Trainer(CONFIG, replace(TRAINING, validation_split=share), seed=seed).train(model, dataset)
        made[name] = model.params.w_candidate
    np.testing.assert_array_equal(made["a"], made["again"])
    assert (made["a"] != made["share"]).any()
    assert (made["a"] != made["seed"]).any()


def test_training_without_validation():
    model = FastGRNN(CONFIG)
    history = Trainer(CONFIG, replace(TRAINING, validation_split=0.0)).train(model, TrainingDataset(*rows()))
    assert len(history) == 4
    assert np.isnan(history[0].val_loss)


def test_history_and_metrics_file(tmp_path):
    trainer, seen = Trainer(CONFIG, TRAINING), []
    assert trainer.metrics_history() == []
    history = trainer.train(FastGRNN(CONFIG), TrainingDataset(*rows()), on_epoch=seen.append)
    assert history == seen == trainer.metrics_history()
    path = tmp_path / "new" / "metrics.json"
    trainer.save_metrics(path)
    assert json.loads(path.read_text()) == [asdict(row) for row in history]


def test_mismatches_are_refused():
    dataset = TrainingDataset(*rows())
    narrow = FastGRNNConfig(4, 16)
    with pytest.raises(ValueError, match="input_dim"):
        Trainer(narrow, TRAINING).train(FastGRNN(narrow), dataset)
    with pytest.raises(ValueError, match="made for"):
        Trainer(FastGRNNConfig(5, 8), TRAINING).train(FastGRNN(CONFIG), dataset)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        Trainer(CONFIG, TrainingConfig(batch_size=0))


def teacher_of(spread=3.0):
    config = FastGRNNConfig(5, 32)
    model = FastGRNN(config, seed=9)
    wide = tensors_of(model.params)
    wide["w_output"] *= spread
    return FastGRNN(config, replace(model.params, w_output=wide["w_output"].astype(np.float32)))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 5.0])
def test_teacher_predictions_divide_the_logit(temperature):
    x, _ = rows()
    teacher = teacher_of()
    z = logits(tensors_of(teacher.params), x[:, None].astype(np.float32).astype(np.float64), Objective())[:, 0]
    made = generate_teacher_predictions(teacher, x, temperature)
    np.testing.assert_allclose(made, sigmoid(z / temperature), atol=1e-6)
    assert made.shape == (200,)
    if temperature > 1:
        divided_probability = sigmoid(z) / temperature
        assert np.abs(made - divided_probability).max() > 0.1


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        generate_teacher_predictions(teacher_of(), rows()[0], temperature)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.7, 3.0), (1.0, 5.0), (0.3, 1.0)])
def test_soft_targets_teach_by_the_guides_formula(alpha, temperature):
    """The round trip of the guide, against a float64 training on the teacher's own logits."""
    x, y = rows()
    teacher = teacher_of()
    dataset = TrainingDataset(x, y).with_soft_targets(generate_teacher_predictions(teacher, x, temperature))
    training = replace(
        TRAINING,
        validation_split=0.0,
        enable_distillation=True,
        distillation_alpha=alpha,
        distillation_temperature=temperature,
    )
    student = FastGRNN(CONFIG)
    start = tensors_of(student.params)
    Trainer(CONFIG, training, seed=2).train(student, dataset)
    train, _ = dataset.split(0.0, 2)
    teachers = logits(tensors_of(teacher.params), train.features.astype(np.float64), Objective())
    taught = Arrays(train.features, train.labels, train.weights, teachers)

    def distance(alpha, temperature):
        *_, wanted = trained(
            start,
            taught,
            Objective(alpha=alpha, temperature=temperature),
            (shuffled_order(len(train.labels), epoch_key(2, epoch)) for epoch in range(4)),
            batch_size=32,
            rates=[0.01] * 4,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-6,
            l2=0.0,
            clip=0.0,
        )
        made = tensors_of(student.params)
        moved = [name for name in NAMES if (wanted[name] != start[name]).any()]
        return max(np.linalg.norm(made[n] - wanted[n]) / np.linalg.norm(wanted[n] - start[n]) for n in moved)

    assert distance(alpha, temperature) < 5e-3
    assert distance(0.5 * alpha, temperature) > 0.02
    assert distance(alpha, temperature + 1) > 0.02
    assert distance(0.0, 1.0) > 0.02


def test_soft_targets_are_ignored_unless_asked_for():
    x, y = rows()
    plain, taught = TrainingDataset(x, y), TrainingDataset(x, y).with_soft_targets(np.full(200, 0.9))
    models = [FastGRNN(CONFIG), FastGRNN(CONFIG)]
    for model, dataset in zip(models, (plain, taught), strict=True):
        Trainer(CONFIG, TRAINING).train(model, dataset)
    np.testing.assert_array_equal(models[0].params.w_candidate, models[1].params.w_candidate)
    assert plain.soft_targets is None


def test_certain_teachers_are_no_trouble():
    """Probabilities of exactly 0 and 1 have no finite logit."""
    x, y = rows()
    dataset = TrainingDataset(x, y).with_soft_targets(y)
    model = FastGRNN(CONFIG)
    history = Trainer(CONFIG, replace(TRAINING, enable_distillation=True)).train(model, dataset)
    assert all(np.isfinite(row.train_loss) for row in history)
    assert all(np.isfinite(getattr(model.params, name)).all() for name in NAMES)
