from dataclasses import replace

import numpy as np
import pytest
from make_candidate import make_candidate
from sample_maker import make

from streamtrain.answers import answers
from streamtrain.publish.artifact import build
from streamtrain.router.load import load
from streamtrain.router.sessions import Sessions


def loaded(tmp_path, steps):
    for name, data in build(make_candidate(1, sequence_length=steps)).items():
        (tmp_path / name).write_bytes(data)
    return load(tmp_path)


@pytest.mark.parametrize("block_numbers", [1, 100, 1 << 20])
@pytest.mark.parametrize("steps", [2, 5])
def test_they_are_those_of_a_router_that_follows_sessions(tmp_path, steps, block_numbers):
    """Sessions of one to many requests, all mixed in time, given in any order."""
    model, rng = loaded(tmp_path, steps), np.random.default_rng(0)
    samples = make(300, dim=5, timestamps=rng.permutation(300))
    samples = replace(samples, groups=(rng.random(300) ** 3 * 60).astype(np.uint64))
    sessions, expected = Sessions(model, 1000, 1e9), np.empty(300)
    for at in np.argsort(samples.timestamps):
        expected[at] = sessions.score(samples.features[at], int(samples.groups[at]))
    lengths = np.bincount(samples.groups.astype(int))
    assert (lengths.max() > 3 * steps, lengths.min() < steps) == (True, True)
    np.testing.assert_allclose(answers(model, samples, block_numbers), expected, rtol=0, atol=1e-12)


def test_one_step_is_each_sample_by_itself(tmp_path):
    model, samples = loaded(tmp_path, 1), make(50, dim=5)
    np.testing.assert_array_equal(answers(model, samples), model.score_batch(samples.features))


@pytest.mark.parametrize("steps", [1, 4])
def test_samples_of_other_features_are_refused(tmp_path, steps):
    with pytest.raises(ValueError, match="feature_0"):
        answers(loaded(tmp_path, steps), make(50, dim=4))


@pytest.mark.parametrize("steps", [1, 4])
def test_a_log_may_hold_what_no_router_takes(tmp_path, steps):
    """The largest float32 is a number, and some write it for what is missing."""
    model, samples = loaded(tmp_path, steps), make(50, dim=5)
    samples.features[3, 2] = np.finfo(np.float32).max
    samples.features[7, 0] = np.finfo(np.float32).min
    assert np.isfinite(answers(model, samples)).all()
