"""What a router answers to logged samples, by its own scorer: what the gate judges."""

from __future__ import annotations

import numpy as np

from streamtrain.dataset import sequence
from streamtrain.router.scorer import LARGEST, Model
from streamtrain.router.served import thresholds
from streamtrain.types import F32, F64, Bools, Samples

_BLOCK_NUMBERS = 1 << 20


def answers(model: Model, samples: Samples, block_numbers: int = _BLOCK_NUMBERS) -> F64:
    """Score samples as a router does that is told the session of each request, in the order of their times.

    Parameters
    ----------
    model : Model
        As loaded for serving. Trained on T > 1 steps, it starts each session from an empty hidden state, and again
        after every T requests.
    samples : Samples
        Features beyond what a router takes count as the largest that it does: logs may hold them.
    block_numbers : int
        How many features are laid out in sequences at a time: sessions of other lengths than T are padded.

    Returns
    -------
    float64, (N,)
        Probabilities of label 1, in the order of the samples.

    Raises
    ------
    ValueError
        If the samples have another number of features than the model.
    """
    features = np.clip(samples.features, -LARGEST, LARGEST)
    if model.sequence_length == 1:
        return model.score_batch(features)
    index = sequence.layout(samples.groups, samples.timestamps, model.sequence_length)
    scores: F64 = np.zeros(index.shape)
    n_rows = max(1, block_numbers // (index.shape[1] * samples.features.shape[1]))
    for first in range(0, len(index), n_rows):
        block = index[first : first + n_rows]
        steps = int((block >= 0).any(axis=0).sum())
        # Padding is at the end of a row, where nothing follows that it could spoil: any sample will do.
        scores[first : first + n_rows, :steps] = model.score_sequences(features[block[:, :steps]])
    return sequence.scatter(index, scores, len(samples.labels))


def to_powerful(
    probabilities: F32 | F64, threshold: float | None = None, max_uncertainty: float | None = None
) -> Bools:
    """Say which requests a router sends to the powerful model, unless its application asks for something else.

    Parameters
    ----------
    probabilities : float, (N,)
        As from `answers`.
    threshold, max_uncertainty : float, optional
        What the version's manifest advises; the router's defaults without.

    Returns
    -------
    bool, (N,)
    """
    least, most = thresholds((None, None), (threshold, max_uncertainty))
    uncertainty = 1.0 - 2.0 * np.abs(probabilities - 0.5)
    # A NaN goes to the powerful model, as in the router.
    sent: Bools = ~((probabilities >= least) & (uncertainty <= most))
    return sent
