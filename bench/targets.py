"""The targets that were set for the kernels, each beside what this run measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COST_SPREAD, MEMORY = 0.25, 2.5


@dataclass(frozen=True)
class Target:
    """`met` is None where it could not be measured."""

    wanted: str
    measured: str
    met: bool | None


def targets(results: dict[str, Any]) -> list[Target]:
    """All of them, in the order in which they were set."""
    peer, torch, limit = results["tiny_dancer"]["rows"], results["pytorch"]["rows"], results["limit"]["rows"]
    found = [
        _faster("≥ 40 × Tiny Dancer's trainer: N 100k, H 16, D 5, both splits evaluated (goal 60)", peer, 40, 100_000),
        _faster("≥ 15 × Tiny Dancer's trainer at D 384, H 16", peer, 15, 10_000, d=384),
        _faster("≥ 150 × PyTorch at batch 32, training alone, H 16, D 5", torch, 150, None),
        _faster("≥ 25 × PyTorch at T = 8, H 16, D 5 (goal 50)", torch, 25, None, t=8),
        _of_limit(limit),
    ]
    found.extend(_cost(name, rows) for name, rows in results["cost"].items())
    found.extend(_memory(row) for row in results["memory"]["rows"])
    found.extend(_calls(results["latency"]))
    found.append(_sizes(results["sizes"]))
    found.append(_rounding(results["rounding"]))
    found.extend(_agreement(row) for row in results["agreement"])
    return found


def _one(rows: list[dict[str, Any]], n: int | None, d: int, h: int, t: int) -> dict[str, Any] | None:
    wanted = {"d": d, "h": h, "t": t} | ({} if n is None else {"n": n})
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def _faster(
    wanted: str, rows: list[dict[str, Any]], times: float, n: int | None, d: int = 5, h: int = 16, t: int = 1
) -> Target:
    row = _one(rows, n, d, h, t)
    if row is None:
        return Target(wanted, "not measured", None)
    ratio = row["ratio"]
    return Target(
        wanted, f"{ratio['median']:.0f} × ({ratio['low']:.0f} to {ratio['high']:.0f})", ratio["median"] >= times
    )


def _of_limit(rows: list[dict[str, Any]]) -> Target:
    wanted = "≥ 50 % of the arithmetic limit at T = 1 (H 16, D 5, batch 32)"
    row = next((one for one in rows if (one["d"], one["h"], one["t"], one["batch"]) == (5, 16, 1, 32)), None)
    if row is None:
        return Target(wanted, "not measured", None)
    measured = f"{row['fraction']:.0%} ({row['low']:.0%} to {row['high']:.0%})"
    return Target(wanted, measured, row["fraction"] >= 0.5)


def _cost(name: str, rows: list[dict[str, Any]]) -> Target:
    relative = [row["relative"] for row in rows]
    largest = max(rows, key=lambda row: row["n"])["n"]
    met = all(abs(one - 1.0) <= COST_SPREAD for one in relative) if largest == 10_000_000 else None
    wanted = f"cost of a sample within ± 25 % from N = 10k to 10M: {name}"
    return Target(wanted, f"{min(relative):.2f} to {max(relative):.2f} times that at 10k (to {largest:,})", met)


def _memory(row: dict[str, Any]) -> Target:
    wanted = f"memory for 10M × 5 samples ≤ 2.5 times the raw arrays: {row['path']}"
    met = row["ratio"] <= MEMORY if row["n"] == 10_000_000 else None
    return Target(wanted, f"{row['ratio']:.2f} times ({row['n']:,} samples)", met)


def _calls(rows: list[dict[str, Any]]) -> list[Target]:
    bounds = [
        ("one `route` call, median ≤ 3 µs (H 16)", "route, a list", "median_us", 3.0),
        ("one `route` call, p99 ≤ 15 µs (H 16)", "route, a list", "p99_us", 15.0),
        ("a batch of 32, median ≤ 8 µs (H 16)", "score_batch of 32", "median_us", 8.0),
    ]
    found = []
    for wanted, call, figure, bound in bounds:
        at_16 = {row["call"]: row[figure] for row in rows if row["h"] == 16}
        plain, compiled = at_16[call], at_16[f"{call}, compiled"]
        found.append(
            Target(wanted, f"{compiled:.2f} µs with `compiled=True`, {plain:.2f} µs without", compiled <= bound)
        )
    return found


def _sizes(rows: list[dict[str, Any]]) -> Target:
    wanted = "INT8 weights and scales ≤ 1.35 bytes a parameter, D 5, H 8 / 16 / 32"
    measured = " / ".join(f"{row['per_parameter']:.2f}" for row in rows)
    return Target(wanted, measured, all(row["per_parameter"] <= 1.35 for row in rows))


def _rounding(rows: list[dict[str, Any]]) -> Target:
    wanted = "INT8 accuracy within 0.2 points of float on every recorded data set (mean over seeds)"
    if not rows:
        return Target(wanted, "not measured: the data sets are not here", None)
    furthest = max(rows, key=lambda row: abs(row["points"]))
    measured = f"furthest {furthest['points']:+.2f} points, on {furthest['name']}"
    return Target(wanted, measured, abs(furthest["points"]) <= 0.2)


def _agreement(row: dict[str, Any]) -> Target:
    differences = {key: row["ours"] / row[key] - 1.0 for key in ("float32", "float64")}
    measured = ", ".join(f"{value:+.1e} from {key}" for key, value in differences.items())
    wanted = f"validation loss within 1 % of PyTorch's, same weights and batches, T = {row['t']}"
    return Target(wanted, measured, all(abs(value) <= 0.01 for value in differences.values()))
