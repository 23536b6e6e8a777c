"""Binary cross-entropy and distillation from logits, sixteen rows at a time.

``BCE(z, y) = softplus(z) - y z`` needs no clamp: it is exact for every logit. Distillation as in the guide (Hinton et
al., 2015), both logits divided by the temperature T::

    L = α BCE(z / T, σ(z_teacher / T)) + (1 - α) BCE(z, y)
    dL/dz = α (σ(z / T) - σ(z_teacher / T)) / T + (1 - α) (σ(z) - y)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.activations import sigmoid_and_softplus
from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, load, muladd, splat, store, total, where_greater

f32 = np.float32
_ZERO, _HALF, _ONE = f32(0.0), f32(0.5), f32(1.0)
_LOWEST = f32(-3.0e38)


@inlined
def hard_loss(s: Any, rows: int, z: int, y: int, w: int, dz: int, scale: float) -> Any:
    """Weighted loss, weighted number of right decisions (threshold 0.5), and ``dz = w (σ(z) - y) scale``."""
    loss, right = splat(_ZERO), splat(_ZERO)
    zero, half, one, factor = splat(_ZERO), splat(_HALF), splat(_ONE), splat(f32(scale))
    for i in range(0, rows, LANES):
        zi, yi, wi = load(s, z + i), load(s, y + i), load(s, w + i)
        sigma, softplus = sigmoid_and_softplus(zi)
        loss = muladd(wi, softplus - yi * zi, loss)
        light = where_greater(zero, zi, zero, one)
        wanted = where_greater(half, yi, zero, one)
        missed = light - wanted
        right = muladd(wi, one - missed * missed, right)
        store(s, dz + i, wi * factor * (sigma - yi))
    return total(loss), total(right)


@inlined
def distilled_loss(
    s: Any, rows: int, z: int, y: int, w: int, q: int, dz: int, scale: float, alpha: float, temperature: float
) -> Any:
    """As `hard_loss`, with the teacher's logits at `q`; a row without a teacher (NaN) learns from its label alone."""
    loss, right = splat(_ZERO), splat(_ZERO)
    zero, half, one, factor = splat(_ZERO), splat(_HALF), splat(_ONE), splat(f32(scale))
    cooling = splat(f32(1.0 / temperature))
    for i in range(0, rows, LANES):
        zi, yi, wi, qi = load(s, z + i), load(s, y + i), load(s, w + i), load(s, q + i)
        soft = where_greater(qi, splat(_LOWEST), splat(f32(alpha)), zero)
        qi = where_greater(qi, splat(_LOWEST), qi, zero)
        sigma, softplus = sigmoid_and_softplus(zi)
        cool = zi * cooling
        cool_sigma, cool_softplus = sigmoid_and_softplus(cool)
        target, _ = sigmoid_and_softplus(qi * cooling)
        hard = softplus - yi * zi
        loss = muladd(wi, hard + soft * (cool_softplus - target * cool - hard), loss)
        light = where_greater(zero, zi, zero, one)
        wanted = where_greater(half, yi, zero, one)
        missed = light - wanted
        right = muladd(wi, one - missed * missed, right)
        plain = sigma - yi
        store(s, dz + i, wi * factor * (plain + soft * ((cool_sigma - target) * cooling - plain)))
    return total(loss), total(right)
