"""Where everything lies: offsets of the packed parameters and of the scratch buffer, in float32 elements.

All of a network's parameters are one flat vector, so that Adam is one loop. The gates' input weights are transposed
and stand side by side, hidden units across lanes and padded with zeros to whole vectors::

    panel[d] = [ w_update[:, d] | w_candidate[:, d] | w_reset[:, d] ]      D rows of G · HP

Padding stays zero for ever: a padded unit has output weight 0, hence gradient 0.

With T = 1 the previous state is zero, so the reset gate and the recurrent matrix have no effect and no gradient; the
layout leaves them out (G = 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.kernels.simd import LANES, ROW_BLOCK


def round_up(n: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is ≥ n."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of the packed parameters for D features, H hidden units and T steps.

    Attributes
    ----------
    features, hidden, steps : int
        D, H, T.
    """

    features: int
    hidden: int
    steps: int

    @property
    def padded(self) -> int:
        """HP: hidden units padded to whole vectors."""
        return round_up(self.hidden, LANES)

    @property
    def gates(self) -> int:
        """G: update and candidate, and reset where there is a previous state."""
        return 2 if self.steps == 1 else 3

    @property
    def panel(self) -> int:
        """Width of one row of the panel, G · HP."""
        return self.gates * self.padded

    @property
    def w_output(self) -> int:
        """Offset of the output weights (HP)."""
        return self.features * self.panel

    @property
    def w_recurrent(self) -> int:
        """Offset of the transposed recurrent matrix (H rows of HP; none with T = 1)."""
        return self.w_output + self.padded

    @property
    def n_weights(self) -> int:
        """Length of the part that L2 applies to; the biases follow."""
        return self.w_recurrent + (0 if self.steps == 1 else self.hidden * self.padded)

    @property
    def bias(self) -> int:
        """Offset of the gates' biases (G · HP)."""
        return self.n_weights

    @property
    def b_output(self) -> int:
        """Offset of the output bias (one vector, of which lane 0 is used)."""
        return self.bias + self.panel

    @property
    def size(self) -> int:
        """Length of the packed vector."""
        return self.b_output + LANES


@dataclass(frozen=True, slots=True)
class Scratch:
    """Offsets of one batch's working memory: `batch` sequences, R = batch · T rows in the order (sequence, step).

    Attributes
    ----------
    layout : Layout
    batch : int
        Sequences of a full batch.
    factors, turned_size : int
        Room for the gradient of factors and for one factor transposed; 0 where no matrix is factors.
    """

    layout: Layout
    batch: int
    factors: int = 0
    turned_size: int = 0

    @property
    def rows(self) -> int:
        """Rows of a full batch, padded."""
        return round_up(self.batch, ROW_BLOCK) * self.layout.steps

    @property
    def _row_vector(self) -> int:
        return round_up(self.rows, LANES)

    @property
    def x(self) -> int:
        """Gathered features, R × D."""
        return 0

    @property
    def gates(self) -> int:
        """Pre-activations, then activations, then their gradients, R × G · HP."""
        return round_up(self.rows * self.layout.features, LANES)

    @property
    def h(self) -> int:
        """Hidden states, R × HP."""
        return self.gates + self.rows * self.layout.panel

    @property
    def reset_h(self) -> int:
        """``r ⊙ h_{t-1}``, R × HP (none with T = 1)."""
        return self.h + self.rows * self.layout.padded

    @property
    def carry(self) -> int:
        """Gradient of the state that flows back in time, batch × HP (none with T = 1)."""
        return self.reset_h + (0 if self.layout.steps == 1 else self.rows * self.layout.padded)

    @property
    def d_reset_h(self) -> int:
        """Gradient of ``r ⊙ h_{t-1}``, batch × HP (none with T = 1)."""
        return self.carry + self._state

    @property
    def w_recurrent(self) -> int:
        """The recurrent matrix as it stands, H × HP (none with T = 1)."""
        return self.d_reset_h + self._state

    @property
    def _state(self) -> int:
        return 0 if self.layout.steps == 1 else self.rows // self.layout.steps * self.layout.padded

    @property
    def z(self) -> int:
        """Logits, R."""
        return self.w_recurrent + (0 if self.layout.steps == 1 else self.layout.hidden * self.layout.padded)

    @property
    def dz(self) -> int:
        """Gradient of the logits, R."""
        return self.z + self._row_vector

    @property
    def y(self) -> int:
        """Labels, R."""
        return self.dz + self._row_vector

    @property
    def w(self) -> int:
        """Weights, R; 0 for padding."""
        return self.y + self._row_vector

    @property
    def q(self) -> int:
        """Teacher logits, R."""
        return self.w + self._row_vector

    @property
    def zeros(self) -> int:
        """Zeros that a sum may start from, G · HP."""
        return self.q + self._row_vector

    @property
    def gradient(self) -> int:
        """Gradient of the packed parameters."""
        return self.zeros + self.layout.panel

    @property
    def turned(self) -> int:
        """A factor the other way round, H × KP (none where no matrix is factors)."""
        return self.gradient + self.layout.size

    @property
    def factor_gradient(self) -> int:
        """Gradient of the trained vector (that of the packed parameters where no matrix is factors)."""
        return self.turned + self.turned_size

    @property
    def size(self) -> int:
        """Length of the scratch buffer."""
        return self.factor_gradient + self.factors
