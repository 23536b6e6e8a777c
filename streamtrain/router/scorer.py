"""One loaded model: immutable, raw features in, probability that the lightweight model is good enough out.

A request is one step from ``h = 0``, so the reset gate and the recurrent matrix have no say and the cell is::

    h = (1 - u) ⊙ c        1 - σ(a) = (1 - t) / 2 with t = tanh(a / 2)        2 W_out h = w·c - w·(t ⊙ c)

With the two matrices stacked, the biases as one more column and every constant multiplied in at load, a request is two
products, one tanh and one multiplication, in float64: NumPy's cost here is that of its calls, not of its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.types import F64, FastGRNNConfig

_BLOCK_ROWS = 4096
_array, _float64, _tanh = np.array, np.float64, np.tanh  # a look-up less on the way of every request
# Half of float32's range: beyond it nothing was ever trained.
_LARGEST = 1.7e38


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

    Attributes
    ----------
    config, features, version
        As given.
    """

    __slots__ = ("_output", "_output_bias", "_shape", "_stacked", "config", "features", "version")

    def __init__(
        self,
        config: FastGRNNConfig,
        update: tuple[F64, F64],
        candidate: tuple[F64, F64],
        output: tuple[F64, F64],
        features: tuple[str, ...],
        version: str | None,
    ) -> None:
        self.config = config
        self.features = features
        self.version = version
        gate = config.nu / 2
        weight: F64 = np.concatenate([gate * update[0], config.zeta * candidate[0]])
        bias: F64 = np.concatenate([gate * update[1], config.zeta * candidate[1]])
        self._stacked: F64 = np.concatenate([weight, bias[:, None]], axis=1)
        self._shape = (len(features) + 1,)
        # Half of the logit, which is what the sigmoid's tanh takes; h is half of (1 - t) c.
        quarter = output[0][0] / 4
        self._output: F64 = np.concatenate([-quarter, quarter])
        self._output_bias = float(output[1][0]) / 2

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
        except (TypeError, ValueError) as error:
            raise self._mistaken(f"{features!r:.100} given") from error
        if x.shape != self._shape:
            raise self._mistaken(f"{len(x) - 1} features given")
        if not -_LARGEST < total < _LARGEST:
            self._refuse_unusable(x[None, :-1])
        a: F64 = self._stacked.dot(x)
        _tanh(a, a)
        n_hidden = len(a) // 2
        gated = a[:n_hidden]
        gated *= a[n_hidden:]
        return 0.5 + 0.5 * math.tanh(float(self._output.dot(a)) + self._output_bias)

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
        if not -_LARGEST < np.add.reduce(columns, axis=None) < _LARGEST:
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
        unusable = ~(np.abs(x) <= _LARGEST)
        if unusable.any():
            row, column = (int(index[0]) for index in np.nonzero(unusable))
            where = f" in row {first_row + row}" if len(x) > 1 or first_row else ""
            raise ValueError(
                f"score: feature {self.features[column]!r} is {x[row, column]}{where}; expected a finite number"
            )
