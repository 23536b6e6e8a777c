"""One loaded model: immutable, raw features in, probability that the lightweight model is good enough out.

A request by itself is one step from ``h = 0``, so the reset gate and the recurrent matrix have no say and the cell is::

    h = (1 - u) ⊙ c        1 - σ(a) = (1 - t) / 2 with t = tanh(a / 2)        2 W_out h = w·c - w·(t ⊙ c)

With the two matrices stacked, the biases as one more column and every constant multiplied in at load, a request is two
products, one tanh and one multiplication, in float64: NumPy's cost here is that of its calls, not of its arithmetic.

A model trained on sequences can also be stepped from a hidden state; with ``σ(a) = (1 + tanh(a / 2)) / 2`` that is::

    r ⊙ h = (h + t_r ⊙ h) / 2        c = tanh(a_c + zeta W_rec (r ⊙ h))        h' = c + (1 + t_u) / 2 ⊙ (h - c)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.types import F64, FastGRNNConfig

_BLOCK_ROWS = 4096
_array, _float64, _tanh = np.array, np.float64, np.tanh  # a look-up less on the way of every request
Layer = tuple[F64, F64]
"""Weight and bias."""
LARGEST = 1.7e38
"""Features are at most as far from 0: half of float32's range, beyond which nothing was ever trained."""


class Model:
    """A FastGRNN ready to score.

    Parameters
    ----------
    config : FastGRNNConfig
    update, candidate, output : pair of float64 arrays
        Weight and bias of each layer on raw features: (H, D) and (H,); for the output (1, H) and (1,).
    features : tuple of str
        Names, in column order.
    version : str or None
        None where the file or a staged directory has none.
    sequence_length : int
        Steps T of a session that it was trained on, one after the other; with 1 there are no hidden states.
    reset, recurrent : float64 arrays, optional
        The reset gate's weight and bias, as `update`, and the recurrent matrix (H, H); needed with T > 1.
    threshold, max_uncertainty : float, optional
        What the version's manifest advises to decide by.

    Attributes
    ----------
    config, features, version, sequence_length, threshold, max_uncertainty
        As given.
    """

    __slots__ = (
        "_gates",
        "_half_output",
        "_output",
        "_output_bias",
        "_recurrent",
        "_shape",
        "_stacked",
        "config",
        "features",
        "max_uncertainty",
        "sequence_length",
        "threshold",
        "version",
    )

    def __init__(
        self,
        config: FastGRNNConfig,
        update: Layer,
        candidate: Layer,
        output: Layer,
        features: tuple[str, ...],
        version: str | None,
        *,
        sequence_length: int = 1,
        reset: Layer | None = None,
        recurrent: F64 | None = None,
        threshold: float | None = None,
        max_uncertainty: float | None = None,
    ) -> None:
        self.config = config
        self.features = features
        self.version = version
        self.sequence_length = sequence_length
        self.threshold = threshold
        self.max_uncertainty = max_uncertainty
        gate = config.nu / 2
        layers = [(gate * update[0], gate * update[1]), (config.zeta * candidate[0], config.zeta * candidate[1])]
        self._stacked: F64 = _stack(layers)
        self._shape = (len(features) + 1,)
        # Half of the logit, which is what the sigmoid's tanh takes; h is half of (1 - t) c.
        quarter = output[0][0] / 4
        self._output: F64 = np.concatenate([-quarter, quarter])
        self._output_bias = float(output[1][0]) / 2
        if sequence_length == 1:
            return
        if reset is None or recurrent is None:
            raise ValueError("Model: steps of a session need the reset gate and the recurrent matrix")
        self._gates: F64 = _stack([(gate * reset[0], gate * reset[1]), *layers])
        self._recurrent: F64 = config.zeta * recurrent / 2
        self._half_output: F64 = output[0][0] / 2

    def score(self, features: Sequence[float] | F64) -> float:
        """Probability of label 1 for one request.

        Parameters
        ----------
        features : D numbers
            Raw, in the order of `Model.features`.

        Returns
        -------
        float
            In 0..1.

        Raises
        ------
        ValueError
            If there are not D finite numbers within float32's range.
        """
        try:
            x: F64 = _array((*features, 1.0), _float64)
            # NaN and infinities survive a sum: one check instead of one per number.
            total = x.sum() if isinstance(features, np.ndarray) else sum(features)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._mistaken(f"{features!r:.100} given") from error
        if x.shape != self._shape:
            raise self._mistaken(f"{len(x) - 1} features given")
        if not -LARGEST < total < LARGEST:
            self._refuse_unusable(x[None, :-1])
        a: F64 = self._stacked.dot(x)
        _tanh(a, a)
        n_hidden = len(a) // 2
        gated = a[:n_hidden]
        gated *= a[n_hidden:]
        return 0.5 + 0.5 * math.tanh(float(self._output.dot(a)) + self._output_bias)

    def step(self, features: Sequence[float] | F64, state: F64 | None) -> tuple[float, F64]:
        """Probability of label 1 for the next request of a session. Only with ``sequence_length > 1``.

        Parameters
        ----------
        features : D numbers
            Raw, in the order of `Model.features`.
        state : float64, (H,), or None
            Hidden state after the request before, not changed; None for a session's first.

        Returns
        -------
        confidence : float
            In 0..1.
        state : float64, (H,)
            After this request.

        Raises
        ------
        ValueError
            As in `score`.
        """
        try:
            x: F64 = _array((*features, 1.0), _float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._mistaken(f"{features!r:.100} given") from error
        if x.shape != self._shape:
            raise self._mistaken(f"{len(x) - 1} features given")
        if not -LARGEST < x.sum() < LARGEST:
            self._refuse_unusable(x[None, :-1])
        h = np.zeros(self.config.hidden_dim) if state is None else state
        h = self._advance(x, h)
        return 0.5 + 0.5 * math.tanh(float(self._half_output.dot(h)) + self._output_bias), h

    def score_sequences(self, features: ArrayLike) -> F64:
        """Probabilities of label 1 at each step of many sessions, each from an empty hidden state.

        Parameters
        ----------
        features : (N, T, D) numbers
            Raw; T is at most `sequence_length`. A sequence that is shorter is padded at its end with anything finite.

        Returns
        -------
        float64, (N, T)
            In 0..1; equal to `step` of each request in turn up to rounding.

        Raises
        ------
        ValueError
            As in `score_batch`, or if T is larger than the model was trained on.
        """
        x: F64 = np.asarray(features)
        if x.ndim != 3 or x.shape[2] != len(self.features) or not 1 <= x.shape[1] <= self.sequence_length:
            raise ValueError(
                f"score_sequences: an array of shape {x.shape} given; expected (N, T, {len(self.features)}) with T in "
                f"1..{self.sequence_length}: {', '.join(self.features)}"
            )
        if self.sequence_length == 1:
            return self.score_batch(x[:, 0])[:, None]
        scores: F64 = np.empty(x.shape[:2])
        for first in range(0, len(x), _BLOCK_ROWS):
            block = x[first : first + _BLOCK_ROWS].astype(np.float64)
            if not -LARGEST < np.add.reduce(block, axis=None) < LARGEST:
                self._refuse_unusable(block.reshape(-1, x.shape[2]), first * x.shape[1])
            columns: F64 = np.ones((x.shape[2] + 1, len(block)))
            h: F64 = np.zeros((self.config.hidden_dim, len(block)))
            for t in range(x.shape[1]):
                columns[:-1] = block[:, t].T
                h = self._advance(columns, h)
                half_logits = self._half_output.dot(h) + self._output_bias
                scores[first : first + _BLOCK_ROWS, t] = 0.5 + 0.5 * np.tanh(half_logits)
        return scores

    def _advance(self, x: F64, h: F64) -> F64:
        """Hidden state, or states as columns, after one step."""
        n_hidden = len(h)
        a: F64 = self._gates.dot(x)
        gates = a[: 2 * n_hidden]
        _tanh(gates, gates)
        gates += 1.0
        c = a[2 * n_hidden :]
        c += self._recurrent.dot(gates[:n_hidden] * h)
        _tanh(c, c)
        update = gates[n_hidden:]
        update *= 0.5
        update *= h - c
        result: F64 = c + update
        return result

    def score_batch(self, features: ArrayLike) -> F64:
        """Probabilities of label 1 for many requests.

        Parameters
        ----------
        features : (N, D) numbers
            Raw.

        Returns
        -------
        float64, (N,)
            In 0..1; equal to `score` of each row up to rounding.

        Raises
        ------
        ValueError
            If the shape is another, or a number is not finite or beyond float32's range.
        """
        x: F64 = np.asarray(features)
        if x.ndim != 2 or x.shape[1] != len(self.features):
            raise ValueError(
                f"score_batch: an array of shape {x.shape} given; expected (N, {len(self.features)}): "
                f"{', '.join(self.features)}"
            )
        if len(x) <= _BLOCK_ROWS:
            return self._score_block(x, 0)
        scores: F64 = np.empty(len(x))
        for start in range(0, len(x), _BLOCK_ROWS):
            scores[start : start + _BLOCK_ROWS] = self._score_block(x[start : start + _BLOCK_ROWS], start)
        return scores

    def _score_block(self, x: F64, first_row: int) -> F64:
        # Features down, requests across: what is gated together then lies together.
        columns: F64 = np.empty((len(self.features) + 1, len(x)))
        columns[:-1] = x.T
        columns[-1] = 1.0
        if not -LARGEST < np.add.reduce(columns, axis=None) < LARGEST:
            self._refuse_unusable(columns[:-1].T, first_row)
        a: F64 = self._stacked.dot(columns)
        _tanh(a, a)
        n_hidden = len(a) // 2
        gated = a[:n_hidden]
        gated *= a[n_hidden:]
        scores: F64 = self._output.dot(a)
        scores += self._output_bias
        _tanh(scores, scores)
        scores *= 0.5
        scores += 0.5
        return scores

    def _mistaken(self, given: str) -> ValueError:
        return ValueError(f"score: {given}; expected {len(self.features)} numbers: {', '.join(self.features)}")

    def _refuse_unusable(self, x: F64, first_row: int = 0) -> None:
        unusable = ~(np.abs(x) <= LARGEST)
        if unusable.any():
            row, column = (int(index[0]) for index in np.nonzero(unusable))
            where = f" in row {first_row + row}" if len(x) > 1 or first_row else ""
            raise ValueError(
                f"score: feature {self.features[column]!r} is {x[row, column]}{where}; expected a finite number"
            )


def _stack(layers: Sequence[Layer]) -> F64:
    """Weights below each other, biases as one more column."""
    weight: F64 = np.concatenate([layer[0] for layer in layers])
    bias: F64 = np.concatenate([layer[1] for layer in layers])
    return np.concatenate([weight, bias[:, None]], axis=1)
