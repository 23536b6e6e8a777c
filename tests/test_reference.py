"""The oracle against itself: its chain rule equals the differences of its own loss."""

import numpy as np
import pytest
from reference import NAMES, Objective, central_differences, drawn_arrays, drawn_tensors, gradient, loss


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("objective", [Objective(), Objective(nu=0.8, zeta=1.3, alpha=0.7, temperature=3.0)])
def test_chain_rule_equals_differences(steps, objective):
    rng = np.random.default_rng(steps)
    tensors = drawn_tensors(rng, 3, 4)
    arrays = drawn_arrays(rng, 6, steps, 3, weighted=True, padded=True, taught=objective.alpha > 0)
    made = gradient(tensors, arrays, objective)
    wanted = central_differences(lambda: loss(tensors, arrays, objective), tensors)
    for name in NAMES:
        np.testing.assert_allclose(made[name], wanted[name], rtol=1e-7, atol=1e-9, err_msg=name)
