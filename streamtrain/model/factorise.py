"""Packed weights as low-rank factors: the best approximation that the rank allows."""

from __future__ import annotations

import numpy as np

from streamtrain.kernels.factors import Factored
from streamtrain.model.params import aligned
from streamtrain.types import F32


def factorise(packed: F32, factored: Factored) -> F32:
    """Split the packed parameters into the vector that is trained.

    Each factored matrix becomes ``U = A √S``, ``V = √S B`` of its truncated singular value decomposition (Eckart &
    Young, 1936): exact where its rank is within k already, as after an earlier training.

    Parameters
    ----------
    packed : float32, (layout.size,)
    factored : Factored

    Returns
    -------
    float32, (factored.size,)
        `packed` itself where nothing is factored.
    """
    if not factored.any:
        return packed
    layout, rank = factored.layout, factored.rank
    trained = aligned(factored.size)
    if factored.inputs:
        panel = packed[: layout.w_output].reshape(layout.features, layout.gates, layout.padded)
        for g in range(layout.gates):
            _split(panel[:, g], trained, g * factored.gate, rank, factored.padded_rank)
    else:
        trained[: layout.w_output] = packed[: layout.w_output]
    output = slice(factored.w_output, factored.w_output + layout.padded)
    trained[output] = packed[layout.w_output : layout.w_output + layout.padded]
    recurrent = packed[layout.w_recurrent : layout.n_weights]
    if factored.recurrent:
        matrix = recurrent.reshape(layout.hidden, layout.padded)
        _split(matrix, trained, factored.w_recurrent, rank, factored.padded_rank)
    else:
        trained[factored.w_recurrent : factored.n_weights] = recurrent
    trained[factored.n_weights :] = packed[layout.n_weights :]
    return trained


def _split(matrix: F32, trained: F32, at: int, rank: int, padded_rank: int) -> None:
    rows, padded = matrix.shape
    left, singular, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(singular[:rank])
    u = trained[at : at + rows * padded_rank].reshape(rows, padded_rank)
    v = trained[at + rows * padded_rank :][: rank * padded].reshape(rank, padded)
    u[:, : len(root)] = left[:, :rank] * root
    v[: len(root)] = root[:, None] * right[:rank]
