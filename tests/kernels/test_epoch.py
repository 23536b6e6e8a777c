"""Whole epochs: batches and their order, weights, divergence, memory, and what is compiled."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_run import KernelRun, Settings, shuffled_order
from numba import types
from reference import (
    INERT_WITH_ONE_STEP,
    NAMES,
    WEIGHTS,
    Objective,
    accuracy,
    drawn_arrays,
    drawn_tensors,
    gradient,
    loss,
    params_of,
    rows,
    trained,
)

from streamtrain.kernels import epoch as kernel
from streamtrain.kernels import simd
from streamtrain.kernels.layout import Layout, Scratch
from streamtrain.kernels.policy import FASTMATH
from streamtrain.model.params import aligned, pack

BATCH = 13
# (T, D, H): kernels that other tests compile too.
SHAPES = [(1, 3, 5), (3, 3, 19)]
OBJECTIVE = Objective(0.8, 1.2)
NONE = np.zeros(0, np.float32)


def problem(shape, n, **options):
    steps, n_features, hidden = shape
    rng = np.random.default_rng([n, *shape])
    return drawn_tensors(rng, n_features, hidden), drawn_arrays(rng, n, steps, n_features, **options)


def run_of(shape, tensors, **settings):
    return KernelRun(params_of(tensors), shape[0], BATCH, Settings(nu=0.8, zeta=1.2, **settings))


@pytest.mark.parametrize("n", [14, 26, 31])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches_follow_the_shuffled_order(shape, n):
    """With β₁ = ½ and learning rate 0, the first moment is Σ ½^(B-b) of the batches' gradients, in their order."""
    tensors, arrays = problem(shape, n, weighted=True)
    run = run_of(shape, tensors, beta1=0.5)
    n_batches = -(-n // BATCH)
    assert run(arrays, key=77) == n_batches
    order, wanted = shuffled_order(n, 77), dict.fromkeys(NAMES, 0.0)
    assert (order != np.arange(n)).any()
    for first in range(0, n, BATCH):
        slopes = gradient(tensors, rows(arrays, order[first : first + BATCH]), OBJECTIVE)
        wanted = {name: 0.5 * wanted[name] + 0.5 * slopes[name] for name in NAMES}
    for name in NAMES:
        size = np.linalg.norm(wanted[name])
        assert np.linalg.norm(run.first_moment[name] - wanted[name]) <= 1e-5 * size, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_many_samples_are_shuffled_in_windows(shape):
    """As above; of so many batches only the last weigh anything."""
    n = kernel.WINDOWED_FROM + 5
    tensors, arrays = problem(shape, n, weighted=True)
    run = run_of(shape, tensors, beta1=0.5)
    assert run(arrays, key=78) == -(-n // BATCH)
    order, wanted = shuffled_order(n, 78, windowed=True), dict.fromkeys(NAMES, 0.0)
    for first in range((n // BATCH - 40) * BATCH, n, BATCH):
        slopes = gradient(tensors, rows(arrays, order[first : first + BATCH]), OBJECTIVE)
        wanted = {name: 0.5 * wanted[name] + 0.5 * slopes[name] for name in NAMES}
    for name in NAMES:
        size = np.linalg.norm(wanted[name])
        assert np.linalg.norm(run.first_moment[name] - wanted[name]) <= 1e-5 * size, name
    assert run.report[kernel.WEIGHT] == pytest.approx(arrays.weights.sum(), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_epochs_equal_float64(shape):
    tensors, arrays = problem(shape, 97, weighted=True)
    settings = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6, "l2": 1e-3, "clip": 0.5}
    run = run_of(shape, tensors, learning_rate=3e-3, **settings)
    orders = (shuffled_order(97, key) for key in range(3))
    reference = trained(tensors, arrays, OBJECTIVE, orders, batch_size=BATCH, rates=[3e-3] * 3, **settings)
    for key, wanted in enumerate(reference):
        assert run(arrays, key=key) == 8
        for name in NAMES:
            if shape[0] == 1 and name in INERT_WITH_ONE_STEP:
                continue
            moved = np.linalg.norm(wanted[name] - tensors[name])
            assert np.linalg.norm(run.trained[name] - wanted[name]) <= 1e-3 * moved, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_report_is_of_real_samples_only(shape):
    tensors, arrays = problem(shape, 31, weighted=True, padded=True)
    run = run_of(shape, tensors)
    run(arrays)
    assert run.report[kernel.WEIGHT] == pytest.approx(arrays.weights.sum(), rel=1e-6)
    assert run.loss == pytest.approx(loss(tensors, arrays, OBJECTIVE), rel=1e-6)
    right = run.report[kernel.RIGHT] / run.report[kernel.WEIGHT]
    assert right == pytest.approx(accuracy(tensors, arrays, OBJECTIVE), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_of_weight_zero_teach_nothing(shape):
    tensors, arrays = problem(shape, BATCH, padded=True)
    arrays.weights[2] = 0.0
    idle = arrays.weights == 0
    other = replace(arrays, labels=np.where(idle, np.float32(1) - arrays.labels, arrays.labels))
    first, second = run_of(shape, tensors, learning_rate=0.01), run_of(shape, tensors, learning_rate=0.01)
    first(arrays)
    second(other)
    np.testing.assert_array_equal(first.f, second.f)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_batch_without_weight_is_no_step(shape):
    tensors, arrays = problem(shape, 2 * BATCH)
    arrays.weights[:] = 0.0
    run = run_of(shape, tensors, learning_rate=0.01, l2=0.1)
    before = run.f.copy()
    assert run(arrays) == 2
    np.testing.assert_array_equal(run.f, before)
    assert run.state[kernel.STEP] == 0
    assert run.report[kernel.WEIGHT] == 0


@pytest.mark.parametrize("field", ["features", "labels", "weights"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_divergence_stops_at_its_batch_with_the_weights_before_it(shape, field, bad):
    """NaN is noticed with the compile flags that are really used."""
    tensors, arrays = problem(shape, 4 * BATCH)
    order = shuffled_order(4 * BATCH, 5)
    clean = run_of(shape, tensors, learning_rate=0.01, beta1=0.9)
    getattr(arrays, field)[order[2 * BATCH + 3], -1] = bad
    run = run_of(shape, tensors, learning_rate=0.01, beta1=0.9)
    assert run(arrays, key=5) == -1 - 2
    assert np.isfinite(run.f).all()
    assert run.state[kernel.STEP] == 2
    # Two good batches were learned, as if the set ended there.
    arrays.weights[order[2 * BATCH :]] = 0.0
    arrays.features[order[2 * BATCH + 3]] = 0.0
    arrays.labels[order[2 * BATCH + 3]] = 0.0
    assert clean(arrays, key=5) == 4
    np.testing.assert_array_equal(run.f, clean.f)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_overflow_of_the_gradient_is_divergence(shape):
    """Finite features whose gradient does not fit float32."""
    tensors, arrays = problem(shape, BATCH)
    arrays.features[:] *= np.float32(3e37)
    run = run_of(shape, tensors, learning_rate=0.01)
    before = run.f.copy()
    assert run(arrays) == -1
    np.testing.assert_array_equal(run.f, before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_infinite_weights_are_divergence(shape):
    tensors, arrays = problem(shape, BATCH)
    run = run_of(shape, tensors)
    run.f[run.layout.w_output] = np.inf
    assert run(arrays) == -1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_loss_that_overflows_is_divergence(shape):
    """Every gradient is finite here: a logit of 3e38 costs 3e38, and two of them more than float32 holds."""
    tensors, arrays = problem(shape, BATCH)
    arrays.labels[:] = 0.0
    run = run_of(shape, tensors)
    run.f[run.layout.b_output] = 3e38
    assert run(arrays) == -1


def guarded(length):
    """A buffer between two stretches that nobody may write."""
    whole = np.full(length + 256, 12345.0, np.float32)
    start = 128 + -(whole.ctypes.data // 4) % 16
    return whole, whole[start : start + length]


@pytest.mark.parametrize("n", [1, 5, 8, 13, 14, 27])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_is_written_outside_the_buffers(shape, n):
    tensors, arrays = problem(shape, n)
    run = run_of(shape, tensors, learning_rate=0.01)
    wholes = []
    for name in ("f", "m", "v", "p", "scratch"):
        whole, inside = guarded(len(getattr(run, name)))
        inside[:] = getattr(run, name)
        setattr(run, name, inside)
        wholes.append((whole, inside))
    for array in (arrays.features, arrays.labels, arrays.weights):
        array.flags.writeable = False
    assert run(arrays) == -(-n // BATCH)
    for whole, inside in wholes:
        assert (whole == 12345.0).sum() - (inside == 12345.0).sum() == 256


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_an_earlier_batch_left_does_not_matter(shape):
    """Everything in the scratch is written before it is read, but for the zeros and padding, which stay zero."""
    tensors, arrays = problem(shape, 31)
    first, second = run_of(shape, tensors, learning_rate=0.01), run_of(shape, tensors, learning_rate=0.01)
    layout = second.scratch_layout
    second.scratch[: layout.zeros] = np.nan
    if shape[0] > 1:
        turned = second.scratch[layout.w_recurrent : layout.z].reshape(shape[2], second.layout.padded)
        turned[:, shape[2] :] = 0.0
    used = pack(params_of({name: np.ones_like(tensor) for name, tensor in tensors.items()}), second.layout)
    second.scratch[layout.gradient : layout.gradient + len(used)] = np.where(used == 1, np.nan, 0.0)
    assert first(arrays) == second(arrays) == 3
    np.testing.assert_array_equal(first.f, second.f)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_padding_stays_zero(shape):
    tensors, arrays = problem(shape, 31)
    run = run_of(shape, tensors, learning_rate=0.01, l2=0.01)
    for key in range(5):
        run(arrays, key)
    used = pack(params_of({name: np.ones_like(tensor) for name, tensor in tensors.items()}), run.layout)
    for vector in (run.f, run.m, run.v):
        assert not vector[used == 0].any()
        assert vector[used == 1].all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masked_weights_stay_where_they_are(shape):
    steps = shape[0]
    tensors, arrays = problem(shape, 31)
    ones = {name: np.ones_like(tensor) for name, tensor in tensors.items()}
    ones["w_candidate"].ravel()[::2] = 0
    ones["w_output"][0, 1] = 0
    if steps > 1:
        ones["w_recurrent"].ravel()[::5] = 0
    for name, mask in ones.items():
        tensors[name] *= mask
    settings = Settings(learning_rate=0.01, beta1=0.9, l2=0.1)
    run = KernelRun(params_of(tensors), steps, BATCH, settings, mask=params_of(ones))
    for key in range(3):
        assert run(arrays, key) == 3
    for name, mask in ones.items():
        if steps == 1 and name in INERT_WITH_ONE_STEP:
            continue
        assert not run.trained[name][mask == 0].any(), name
        if name in WEIGHTS:  # by L2 at least, where a masked output leaves no gradient
            assert (run.trained[name] != tensors[name])[mask == 1].all(), name


@pytest.mark.parametrize("n", [1, 64, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scoring_reports_loss_and_accuracy(shape, n):
    steps, n_features, hidden = shape
    tensors, arrays = problem(shape, n, weighted=n > 1, padded=n > 1)
    layout = Layout(n_features, hidden, steps)
    score = kernel.scoring_kernel(n_features, hidden, steps)
    scratch = aligned(Scratch(layout, kernel.EVALUATION_BATCH).size)
    report = np.zeros(kernel.N_REPORT)
    flat = (arrays.features.ravel(), arrays.labels.ravel(), arrays.weights.ravel())
    packed = pack(params_of(tensors), layout)
    logits = np.full(n * steps, np.nan, np.float32)
    score(packed, scratch, *flat, 0.8, 1.2, logits, report)
    score(packed, scratch, *flat, 0.8, 1.2, NONE, report)
    assert np.isfinite(logits).all()
    assert report[kernel.WEIGHT] == pytest.approx(2 * arrays.weights.sum(), rel=1e-6)
    assert report[kernel.LOSS] / report[kernel.WEIGHT] == pytest.approx(loss(tensors, arrays, OBJECTIVE), rel=1e-6)
    assert report[kernel.RIGHT] / report[kernel.WEIGHT] == pytest.approx(accuracy(tensors, arrays, OBJECTIVE), rel=1e-6)


_FLOATS, _INPUT = types.Array(types.float32, 1, "C"), types.Array(types.float32, 1, "C", readonly=True)
_DOUBLES = types.Array(types.float64, 1, "C")
EPOCH_SIGNATURE = (
    *(_FLOATS, _FLOATS, _FLOATS, _FLOATS, _INPUT, _FLOATS),
    *(_INPUT, _INPUT, _INPUT, _INPUT),
    *(_DOUBLES, _DOUBLES, types.uint64, _DOUBLES),
)
SCORE_SIGNATURE = (_FLOATS, _FLOATS, _INPUT, _INPUT, _INPUT, types.float64, types.float64, _FLOATS, _DOUBLES)


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_signature_is_compiled_and_no_call_adds_another(shape, distilled):
    """Training and scoring with every option that changes an argument; other types are refused, not compiled."""
    steps, n_features, hidden = shape
    tensors, arrays = problem(shape, 31, taught=distilled)
    ones = params_of({name: np.ones_like(tensor) for name, tensor in tensors.items()})
    for mask in (None, ones):
        for rounded in (False, True):
            settings = Settings(rounded=rounded)
            run = KernelRun(params_of(tensors), steps, BATCH, settings, distilled=distilled, mask=mask)
            assert run(arrays) == 3
    assert [tuple(s) for s in run.kernel.signatures] == [EPOCH_SIGNATURE]
    assert len(run.kernel.nopython_signatures) == 1
    with pytest.raises(TypeError):
        run(replace(arrays, features=arrays.features.astype(np.float64)))
    score = kernel.scoring_kernel(n_features, hidden, steps)
    scratch = aligned(Scratch(run.layout, kernel.EVALUATION_BATCH).size)
    flat = (arrays.features.ravel(), arrays.labels.ravel(), arrays.weights.ravel())
    score(run.f, scratch, *flat, 1, 1, NONE, np.zeros(kernel.N_REPORT))  # whole numbers are numbers too
    assert [tuple(s) for s in score.signatures] == [SCORE_SIGNATURE]
    assert len(run.kernel.nopython_signatures) == 1


def test_compile_policy():
    """No GIL held, and no flag that lets the compiler assume away NaN and infinity."""
    made = kernel.training_kernel(3, 5, 1, BATCH, False)
    assert made.targetoptions["nogil"] is True
    assert made.targetoptions["fastmath"] == set(FASTMATH)
    for flags in (FASTMATH, set(simd._FLAGS)):
        assert not flags & {"nnan", "ninf", "fast", "afn"}
