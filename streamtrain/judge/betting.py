"""Is what is served worse than what was served before? A test that may be looked at after every sample.

Testing by betting (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"; Ramdas et
al. 2023, "Game-theoretic statistics and safe anytime-valid inference"): somebody who believes that the shadow does
better than the champion bets a fixed share of his wealth on each sample, at fair odds if the two were equal. Where the
champion is no worse, the wealth is a supermartingale that starts at 1, and Ville's inequality bounds the chance that it
*ever* reaches 1/α by α, however often it is looked at and whenever one stops. Several stakes are held side by side and
their mean is looked at, because how much the champion is worse is not known beforehand (the mixture of Robbins 1970,
in the discrete form of a universal portfolio).

Two sorts of bets share the wealth: on decisions (which of the two was right, as in McNemar's test) and on the Brier
score, a proper score that is bounded by itself, so that these bets too are exact without clipping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.types import F64, U64

DECISION_STAKES = (0.2, 0.25, 0.45)
BRIER_STAKES = (0.4, 0.85)
"""Shares of the wealth: best where the shadow's mean advantage is so much of the advantage's mean square."""
OPEN_SESSIONS = 4096
"""So many sessions, those heard of last, may still go on; a later sample of any other counts as a new one."""

_STAKES = np.array((*DECISION_STAKES, *BRIER_STAKES))
_N_DECISION = len(DECISION_STAKES)


class Bets:
    """The evidence that a champion is worse than its shadow.

    The unit is the session: its samples resemble each other, so that the bet is on their mean. A sample without one is
    its own. Which samples come in one call changes nothing.

    Attributes
    ----------
    n : int
        Samples seen.
    """

    def __init__(self) -> None:
        self.n = 0
        self._log_wealth = np.zeros(len(_STAKES))
        # By session, the one heard of last at the end: number of samples, sums of both advantages.
        self._open: dict[int, tuple[int, float, float]] = {}

    @property
    def wealth(self) -> float:
        """Of whoever bet on the shadow; 1 at first."""
        return float(np.exp(self._log_wealth).mean())

    def add(self, decisions: F64, brier: F64, sessions: U64 | None = None) -> F64:
        """Take samples in, in order.

        Parameters
        ----------
        decisions : float64, (N,)
            1 where only the shadow was right, -1 where only the champion was, else 0.
        brier : float64, (N,)
            Brier score of the champion minus the shadow's, in -1..1.
        sessions : uint64, (N,), optional

        Returns
        -------
        float64, (N,)
            The wealth after each sample.
        """
        n = len(decisions)
        if not n:
            return np.empty(0)
        steps = np.empty((n, len(_STAKES)))
        if sessions is None:
            steps[:, :_N_DECISION] = np.log1p(decisions[:, None] * _STAKES[:_N_DECISION])
            steps[:, _N_DECISION:] = np.log1p(brier[:, None] * _STAKES[_N_DECISION:])
        else:
            before, after = self._session_means(decisions.tolist(), brier.tolist(), sessions.tolist())
            for columns, kind in ((slice(0, _N_DECISION), 0), (slice(_N_DECISION, None), 1)):
                stakes = _STAKES[columns]
                steps[:, columns] = np.log1p(after[:, kind, None] * stakes) - np.log1p(before[:, kind, None] * stakes)
        # Begun with the wealth so far, so that the additions are the same however the samples are handed over.
        path = np.concatenate((self._log_wealth[None], steps)).cumsum(0)[1:]
        self._log_wealth = path[-1].copy()
        self.n += n
        with np.errstate(over="ignore"):
            wealth: F64 = np.exp(path).mean(1)
        return wealth

    def _session_means(self, decisions: list[float], brier: list[float], sessions: list[int]) -> tuple[F64, F64]:
        """Mean advantages of each sample's session without it and with it (N, 2)."""
        before, after = np.zeros((len(decisions), 2)), np.empty((len(decisions), 2))
        for i, (decision, score, session) in enumerate(zip(decisions, brier, sessions, strict=True)):
            n, total_decisions, total_brier = self._open.pop(session, (0, 0.0, 0.0))
            if n:
                before[i] = total_decisions / n, total_brier / n
            elif len(self._open) >= OPEN_SESSIONS:
                del self._open[next(iter(self._open))]
            n, total_decisions, total_brier = n + 1, total_decisions + decision, total_brier + score
            self._open[session] = (n, total_decisions, total_brier)
            after[i] = total_decisions / n, total_brier / n
        return before, after

    def state(self) -> dict[str, Any]:
        """All that the next samples depend on, as JSON values."""
        return {
            "n": self.n,
            "log_wealth": self._log_wealth.tolist(),
            "open": [[session, *sums] for session, sums in self._open.items()],
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Bets:
        """Go on from a `state`."""
        made = cls()
        made.n = state["n"]
        made._log_wealth = np.array(state["log_wealth"], np.float64)
        if made._log_wealth.shape != _STAKES.shape:
            raise ValueError(f"bets: {len(made._log_wealth)} stakes; expected {len(_STAKES)}")
        made._open = {int(session): (int(n), a, b) for session, n, a, b in state["open"]}
        return made
