"""The guide's model class."""

import numpy as np
import pytest
from reference import Objective, drawn_tensors, logits, params_of, sigmoid, tensors_of

from streamtrain import FastGRNN, FastGRNNConfig
from streamtrain.model.prune import sparsity
from streamtrain.model.quantize import dequantize, quantize

CONFIG = FastGRNNConfig(input_dim=5, hidden_dim=16, output_dim=1, nu=0.8, zeta=1.2, rank=8)


@pytest.fixture
def model():
    return FastGRNN(CONFIG, params_of(drawn_tensors(np.random.default_rng(0), 5, 16)))


def test_forward_is_the_probability_of_one_step(model):
    x = np.random.default_rng(1).normal(size=(20, 5))
    wanted = sigmoid(logits(tensors_of(model.params), x[:, None], Objective(0.8, 1.2))[:, 0])
    np.testing.assert_allclose(model.forward_batch(x), wanted, rtol=1e-12)
    one = model.forward([float(number) for number in x[3]])
    assert isinstance(one, float)
    assert one == pytest.approx(wanted[3], rel=1e-12)


def test_defaults_and_seeds():
    model, again, other = FastGRNN(), FastGRNN(seed=0), FastGRNN(seed=1)
    assert model.config == FastGRNNConfig(5, 16, 1, 1.0, 1.0, None)
    np.testing.assert_array_equal(model.params.w_candidate, again.params.w_candidate)
    assert (model.params.w_candidate != other.params.w_candidate).any()


def test_sizes(model):
    assert model.n_parameters == 3 * 16 * 5 + 16 * 16 + 16 + 3 * 16 + 1
    assert model.size_bytes() == 4 * model.n_parameters


def test_quantize_and_prune_change_what_is_scored(model):
    x = np.random.default_rng(1).normal(size=(20, 5))
    before, params = model.forward_batch(x), model.params
    model.quantize()
    np.testing.assert_array_equal(model.params.w_update, dequantize(quantize(params)).w_update)
    quantized = model.forward_batch(x)
    assert 0 < np.abs(quantized - before).max() < 0.05
    model.prune(0.5)
    assert sparsity(model.params) >= 0.5
    assert np.abs(model.forward_batch(x) - quantized).max() > 0


def test_a_saved_model_loads_as_it_was(model, tmp_path):
    path = tmp_path / "new" / "folder" / "fastgrnn.safetensors"
    model.save(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["fastgrnn.safetensors"]
    loaded = FastGRNN.load(path)
    assert loaded.config == CONFIG
    for name, tensor in tensors_of(model.params).items():
        np.testing.assert_array_equal(tensors_of(loaded.params)[name], tensor)
    model.quantize()
    model.save(str(path))
    np.testing.assert_array_equal(FastGRNN.load(str(path)).params.w_reset, model.params.w_reset)


def test_files_that_are_no_model_are_refused(model, tmp_path):
    path = tmp_path / "broken.safetensors"
    model.save(path)
    whole = path.read_bytes()
    for content in (b"", b"rubbish", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.safetensors"):
            FastGRNN.load(path)
    with pytest.raises(OSError, match="missing"):
        FastGRNN.load(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"input_dim": 0}, "input_dim"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"output_dim": 2}, "output_dim"),
        ({"rank": 0}, "rank"),
        ({"nu": 0.0}, "nu"),
        ({"zeta": float("nan")}, "zeta"),
    ],
)
def test_impossible_configurations_are_refused(wrong, name):
    with pytest.raises(ValueError, match=name):
        FastGRNN(FastGRNNConfig(**wrong))


def test_tensors_of_another_shape_are_refused(model):
    with pytest.raises(ValueError, match="w_reset"):
        FastGRNN(FastGRNNConfig(input_dim=6), model.params)
