"""Weights trained as low-rank factors: multiplied out before the forward pass, their gradients taken back after it.

A matrix M (in × out, as the packed parameters hold it, transposed) of rank k is ``M = U V`` with U (in × k) and
V (k × out); hence ``dU = dM Vᵀ`` and ``dV = Uᵀ dM``. FastGRNN's authors train it so (Kusupati et al., 2018, §3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamtrain.kernels.layout import Layout, round_up
from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, load, matmul, store


@dataclass(frozen=True, slots=True)
class Factored:
    """Offsets of the trained vector when the input matrices, the recurrent matrix, or both are factors.

    Attributes
    ----------
    layout : Layout
    rank : int
        k; 0 trains every matrix whole, and the trained vector is the packed one. A matrix whose smaller side is not
        above k is trained whole too: factors would only be longer.
    """

    layout: Layout
    rank: int

    @property
    def inputs(self) -> bool:
        """Whether the gates' input matrices are factors."""
        return 0 < self.rank < min(self.layout.features, self.layout.hidden)

    @property
    def recurrent(self) -> bool:
        """Whether the recurrent matrix is factors."""
        return self.layout.steps > 1 and 0 < self.rank < self.layout.hidden

    @property
    def any(self) -> bool:
        """Whether the trained vector differs from the packed one."""
        return self.inputs or self.recurrent

    @property
    def padded_rank(self) -> int:
        """KP: k padded to whole vectors, the row length of U."""
        return round_up(max(self.rank, 1), LANES)

    @property
    def gate(self) -> int:
        """Length of one gate's factors, U (D × KP) and V (k × HP)."""
        return self.layout.features * self.padded_rank + self.rank * self.layout.padded

    @property
    def w_output(self) -> int:
        """Offset of the output weights."""
        return self.layout.gates * self.gate if self.inputs else self.layout.w_output

    @property
    def w_recurrent(self) -> int:
        """Offset of the recurrent matrix or its factors, U (H × KP) and V (k × HP)."""
        return self.w_output + self.layout.padded

    @property
    def n_weights(self) -> int:
        """Length of the part that L2 applies to; the biases follow."""
        layout = self.layout
        if self.recurrent:
            return self.w_recurrent + layout.hidden * self.padded_rank + self.rank * layout.padded
        return self.w_recurrent + (layout.n_weights - layout.w_recurrent)

    @property
    def size(self) -> int:
        """Length of the trained vector."""
        return self.n_weights + self.layout.size - self.layout.n_weights


def effective_rank(layout: Layout, rank: int | None) -> int:
    """Return the rank that a kernel is made for: 0 where factors of `rank` would shorten nothing."""
    return rank if rank is not None and Factored(layout, rank).any else 0


@inlined
def copy(target: Any, to: int, source: Any, start: int, length: int) -> None:
    """Copy `length` floats, a multiple of the lanes."""
    for i in range(0, length, LANES):
        store(target, to + i, load(source, start + i))


@inlined
def expand_matrix(
    p: Any, p_at: int, p_row: int, f: Any, f_at: int, rows: int, rank: int, padded_rank: int, padded: int,
    vectors: int, s: Any, zeros: int,
) -> None:  # fmt: skip
    """``M = U V`` of one matrix of `rows` × `padded`, from `f` into `p`."""
    matmul(
        p, p_at, p_row, f, f_at, padded_rank, 1, f, f_at + rows * padded_rank, padded,
        rows, vectors, rank, False, s, zeros,
    )  # fmt: skip


@inlined
def contract_matrix(
    f: Any, f_at: int, s: Any, d_at: int, d_row: int, g_at: int, rows: int, hidden: int, rank: int, padded_rank: int,
    rank_vectors: int, padded: int, vectors: int, turned: int, zeros: int,
) -> None:  # fmt: skip
    """Gradient of one matrix, at `d_at` of the scratch, into those of its factors at `g_at`."""
    v_at = f_at + rows * padded_rank
    for j in range(hidden):
        for i in range(padded_rank):
            s[turned + j * padded_rank + i] = f[v_at + i * padded + j] if i < rank else 0.0
    matmul(
        s, g_at, padded_rank, s, d_at, d_row, 1, s, turned, padded_rank,
        rows, rank_vectors, hidden, False, s, zeros,
    )  # fmt: skip
    matmul(
        s, g_at + rows * padded_rank, padded, f, f_at, 1, padded_rank, s, d_at, d_row,
        rank, vectors, rows, False, s, zeros,
    )  # fmt: skip
