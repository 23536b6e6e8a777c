from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.types import Candidate, Scaling

LIGHTWEIGHT_FROM = np.log(0.925 / 0.075)  # the logit from which a router with the defaults takes the lightweight model


@pytest.fixture
def publish(tmp_path):
    """Publish a candidate into ``tmp_path / "models"`` and return that directory."""
    with Registry(tmp_path / "models") as registry:

        def published(candidate):
            registry.publish(registry.stage(build(candidate)))
            return tmp_path / "models"

        yield published


def undecided(candidate: Candidate, **changes: object) -> Candidate:
    """Shift a candidate's answers so that decisions of both kinds are near: half of them each way."""
    rng = np.random.default_rng(9)
    z = rng.normal(0.0, 1.0, (4000, candidate.config.input_dim))
    from streamtrain.model.forward import logits, step
    from streamtrain.model.quantize import dequantize

    served = dequantize(candidate.quantized)
    h = step(served, z, np.zeros((len(z), candidate.config.hidden_dim)), candidate.config.nu, candidate.config.zeta)
    shift = np.float32(LIGHTWEIGHT_FROM - np.median(logits(served, h)))
    biases = candidate.quantized.biases | {"b_output": candidate.quantized.biases["b_output"] + shift}
    params = replace(candidate.params, b_output=biases["b_output"])
    return replace(candidate, params=params, quantized=replace(candidate.quantized, biases=biases), **changes)


def raw_vectors(scaling: Scaling, n: int, seed: int = 0) -> np.ndarray:
    """Raw vectors around the mean, numbers that float32 holds."""
    z = np.random.default_rng(seed).normal(0.0, 1.0, (n, len(scaling.means)))
    return (scaling.means + scaling.stds * z).astype(np.float32)
