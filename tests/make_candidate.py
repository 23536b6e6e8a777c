"""A candidate with random weights, the same for the same seed: what publishing and serving are tested with."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from streamtrain.model.formats import shapes
from streamtrain.model.quantize import quantize
from streamtrain.types import Candidate, EpochMetrics, FastGRNNConfig, InputRange, Params, Scaling

TINY_DANCER_SCALE = (0.4, 0.2, 0.15, 0.15, 0.1)


def make_candidate(
    seed: int,
    input_dim: int = 5,
    hidden_dim: int = 16,
    nu: float = 1.0,
    zeta: float = 1.0,
    input_scale: tuple[float, ...] | None = None,
    sequence_length: int = 1,
) -> Candidate:
    rng = np.random.default_rng(seed)
    config = FastGRNNConfig(input_dim, hidden_dim, nu=nu, zeta=zeta)
    whole = shapes(config)
    params = Params(**{f.name: rng.normal(0.0, 0.7, whole[f.name]).astype(np.float32) for f in fields(Params)})
    scaling = Scaling(rng.uniform(0.0, 1.0, input_dim), rng.uniform(0.1, 0.4, input_dim))
    return Candidate(
        config=config,
        params=params,
        quantized=quantize(params),
        scaling=scaling,
        features=tuple(f"feature_{column}" for column in range(input_dim)),
        input_scale=input_scale,
        epochs=(EpochMetrics(1, 0.6, 0.61, 0.7, 0.69, 0.01), EpochMetrics(2, 0.5, 0.52, 0.8, 0.79, 0.01)),
        origin="scratch",
        parent=None,
        seed=seed,
        inputs=(InputRange("1", "logs/routing.jsonl", 0, 1000),),
        settings={"model": {"hidden_dim": hidden_dim}},
        sequence_length=sequence_length,
    )
