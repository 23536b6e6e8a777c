"""The threshold that keeps a promise: of the requests routed to the lightweight model, at most so many go wrong.

Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021; Bates et al. 2021): each threshold is the hypothesis
that more than `max_error` of the requests at or above it go wrong, and one that is rejected may be used. Thresholds are
tested in an order that is fixed before the promise split is looked at, and testing ends at the first that is not
rejected, so that all tests together err with the chance that one of them may (fixed-sequence testing). What fixes the
order is the validation split: it begins where that split makes success likeliest, and goes down from there.

The tests are exact: of independent requests that weigh alike, the binomial tail (the bound is that of Clopper and
Pearson 1934); where requests have weights or belong to sessions, a betting test over sessions (Waudby-Smith and Ramdas
2024), which holds for whatever distribution as long as no session weighs more than the heaviest one seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import F32, F64, U64, Bools

Floats = F32 | F64

ALL_TO_POWERFUL = 1.0
_N_THRESHOLDS = 200
_BOLDEST_BET = 0.9
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Held:
    """Answers to held-out samples.

    Attributes
    ----------
    labels, probabilities, weights : float, (N,)
        A label ≥ 0.5 says that the lightweight model was good enough.
    groups : uint64, (N,)
        Session of each sample.
    """

    labels: Floats
    probabilities: Floats
    weights: Floats
    groups: U64


@dataclass(frozen=True, slots=True)
class Promise:
    """What a router may count on.

    Attributes
    ----------
    threshold : float
        Least confidence for the lightweight model; 1 where no threshold keeps the promise.
    kept : bool
        There is one that does.
    max_error, confidence : float
        The promise: an error rate of at most that, with that confidence over the draw of the promise split.
    n_samples, n_routed : int
        Samples of the promise split, and how many of them are at or above the threshold.
    error, bound : float or None
        Weighted error rate of those; its upper bound at `confidence`, where samples are independent and weigh alike.
    share : float
        Weighted share of traffic that stays on the lightweight model.
    test : str
        "binomial" or "betting".
    text : str
        All that in a sentence.
    """

    threshold: float
    kept: bool
    max_error: float
    confidence: float
    n_samples: int
    n_routed: int
    error: float | None
    bound: float | None
    share: float
    test: str
    text: str


def least_samples(max_error: float, confidence: float) -> int:
    """So many routed requests, none of them wrong, are needed to show an error rate of at most `max_error`."""
    return math.ceil(math.log(1.0 - confidence) / math.log1p(-max_error) - 1e-9)


def promise(held: Held, guide: Held, max_error: float, confidence: float) -> Promise:
    """Choose the lowest threshold for which the promise is shown to hold.

    Parameters
    ----------
    held : Held
        The promise split: samples that nothing was trained on, nor chosen or judged by.
    guide : Held
        The validation split, which only decides in what order thresholds are tried.
    max_error : float
        In 0..1.
    confidence : float
        In 0.5..1.

    Returns
    -------
    Promise
    """
    held, guide = _counted(held), _counted(guide)
    alone = len(np.unique(held.groups)) == len(held.groups)
    binomial = alone and bool(np.all(held.weights == held.weights[:1]))
    alpha = 1.0 - confidence
    best: float | None = None
    for threshold in _sequence(guide, len(held.labels), max_error):
        routed = held.probabilities >= threshold
        if binomial:
            wrong = held.labels[routed] < 0.5
            p = binomial_tail(int(wrong.sum()), len(wrong), max_error)
        else:
            p = _betting_tail(held, routed, guide, guide.probabilities >= threshold, max_error)
        if p > alpha:
            break
        best = threshold
    return _told(held, best, max_error, confidence, binomial)


def binomial_tail(n_wrong: int, n: int, rate: float) -> float:
    """Return the chance of at most so many wrong of `n` if each is wrong with probability `rate`; exact to rounding."""
    if n_wrong >= n:
        return 1.0
    k = np.arange(n_wrong + 1, dtype=np.float64)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((n - k[1:] + 1) / k[1:]))))
    terms = log_choose + k * math.log(rate) + (n - k) * math.log1p(-rate)
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


def upper_bound(n_wrong: int, n: int, confidence: float) -> float:
    """Bound a rate from above, one-sided (Clopper and Pearson 1934): at that rate, so few would be that unlikely."""
    if n_wrong >= n:
        return 1.0
    low, high = n_wrong / n, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle >= 1.0 or binomial_tail(n_wrong, n, middle) <= 1.0 - confidence:
            high = middle
        else:
            low = middle
    return high


def _counted(held: Held) -> Held:
    kept: Bools = np.asarray(held.weights, np.float64) > 0
    columns = (held.labels, held.probabilities, held.weights)
    labels, probabilities, weights = (np.asarray(column, np.float64)[kept] for column in columns)
    return Held(labels, probabilities, weights, held.groups[kept])


def _sequence(guide: Held, n_held: int, max_error: float) -> list[float]:
    """Thresholds in the order in which they are tried: from the one likeliest to succeed downwards.

    The exponent of the chance that a threshold of true error rate e fails is at least ``n KL(e ‖ max_error)`` (Chernoff
    1952). What e is, the labels of the guide and its probabilities say with equal weight.
    """
    if not len(guide.labels) or not n_held or not np.isfinite(guide.probabilities).all():
        return []
    levels = np.quantile(guide.probabilities, np.linspace(0.0, 1.0, _N_THRESHOLDS), method="lower")
    # Rounded down, so that what a person reads is what is meant.
    grid: F64 = np.unique(np.floor(levels * 10**_DIGITS) / 10**_DIGITS).astype(np.float64)
    order = np.argsort(-guide.probabilities, kind="stable")
    descending: F64 = -guide.probabilities[order].astype(np.float64)
    weights: F64 = guide.weights[order].astype(np.float64)
    mass = np.cumsum(weights)
    wrong: F64 = (guide.labels[order] < 0.5) + (1.0 + descending)
    expected: F64 = 0.5 * np.cumsum(weights * wrong)
    last: NDArray[np.int64] = np.searchsorted(descending, -grid, side="right") - 1
    usable = last >= 0
    grid, last = grid[usable], last[usable]
    error: F64 = np.clip(expected[last] / mass[last], 1e-4, 1.0 - 1e-4)
    share = mass[last] / mass[-1]
    distance = error * np.log(error / max_error) + (1.0 - error) * np.log((1.0 - error) / (1.0 - max_error))
    strength: F64 = np.where(error < max_error, n_held * share * distance, 0.0)
    start = int(np.argmax(strength)) if float(strength.max()) > 0 else int(np.argmin(error))
    return [float(threshold) for threshold in grid[start::-1]]


def _betting_tail(held: Held, routed: Bools, guide: Held, guided: Bools, max_error: float) -> float:
    """Test that routed requests go wrong more often than `max_error`, by betting against it, session by session.

    With ``Z = Σ w (wrong - max_error)`` over a session's routed requests, the hypothesis says ``E Z ≥ 0``, under which
    the capital ``Π (1 - λ Z)`` is a supermartingale for bets λ ≥ 0 that are laid before Z is known: it ever exceeds 1/p
    with a chance of at most p (Ville 1939). Bets are those of a gambler who maximises growth (Kelly 1956), by the mean
    and variance of Z on the guide and on the sessions before.
    """
    z, most = _session_sums(held, routed, max_error)
    before, _ = _session_sums(guide, guided, max_error)
    if not len(z) or most <= 0:
        return 1.0
    n, total, squares = float(len(before)), float(before.sum()), float((before**2).sum())
    n_before = n + np.arange(len(z)) + 1.0
    totals = total + np.concatenate(([0.0], np.cumsum(z)[:-1]))
    all_squares = squares + max_error**2 + np.concatenate(([0.0], np.cumsum(z**2)[:-1]))
    bets = np.clip(-totals / n_before / (all_squares / n_before), 0.0, _BOLDEST_BET / (most * (1.0 - max_error)))
    capital = np.cumsum(np.log1p(-bets * z))
    return float(min(1.0, math.exp(-max(0.0, float(capital.max())))))


def _session_sums(held: Held, routed: Bools, max_error: float) -> tuple[F64, float]:
    """Z of each session, in the order of hashes, which know nothing of outcomes; and the weight of the heaviest."""
    if not len(held.labels):
        return np.empty(0), 0.0
    _, index = np.unique(held.groups, return_inverse=True)
    weights = np.where(routed, held.weights, 0.0)
    z = np.bincount(index, weights=weights * ((held.labels < 0.5) - max_error))
    return z.astype(np.float64), float(np.bincount(index, weights=held.weights).max())


def _told(held: Held, threshold: float | None, max_error: float, confidence: float, binomial: bool) -> Promise:
    n = len(held.labels)
    asked = f"at most {100 * max_error:.4g} % wrong of what is routed to the lightweight model"
    test = "binomial" if binomial else "betting"
    if threshold is None:
        needed = least_samples(max_error, confidence)
        text = (
            f"no threshold is shown to keep the promise ({asked}, with {100 * confidence:.4g} % confidence) on the "
            f"{n:,} samples that were set aside for it; {needed:,} routed ones would be needed even without a mistake. "
            "Until then every request goes to the powerful model (threshold 1)"
        )
        return Promise(ALL_TO_POWERFUL, False, max_error, confidence, n, 0, None, None, 0.0, test, text)
    routed = held.probabilities >= threshold
    wrong = held.labels[routed] < 0.5
    weights = held.weights[routed]
    error = float(np.average(wrong, weights=weights))
    share = float(weights.sum() / held.weights.sum())
    bound = upper_bound(int(wrong.sum()), len(wrong), confidence) if binomial else None
    shown = "" if bound is None else f", at most {100 * bound:.2f} %"
    text = (
        f"from confidence {threshold:.4g} on, {asked}, with {100 * confidence:.4g} % confidence: of {n:,} samples set "
        f"aside for this alone, {len(wrong):,} are routed there ({100 * share:.1f} % of the traffic) and "
        f"{100 * error:.2f} % of them went wrong{shown}"
    )
    return Promise(threshold, True, max_error, confidence, n, len(wrong), error, bound, share, test, text)
