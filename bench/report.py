"""The results of a run as a page of Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from limit import OPERATIONS, PARAMETERS, SIGMOID, TANH
from plot import Bar, Group, bars
from scaling import PATHS
from targets import targets

Rows = list[dict[str, Any]]
_MET = {True: "yes", False: "**no**", None: "not measured"}


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        f"Written by `{results['command']}`, every figure in one run of {results['minutes']:.0f} minutes. Ours and "
        f"each peer run in turns (A B A B …) after a warm-up, {results['rounds']} rounds, one thread each. Figures are "
        "medians; ratios are medians of the rounds' ratios, with their range. At T > 1 a sample is a whole sequence.",
        _table(("machine", ""), results["machine"].items()),
        "![samples per second](benchmarks.svg)",
        "## Targets",
        _table(("target", "measured", "met"), ((t.wanted, t.measured, _MET[t.met]) for t in targets(results))),
        *_tiny_dancer(results["tiny_dancer"]),
        *_pytorch(results["pytorch"]),
        "## scikit-learn's MLPClassifier",
        "One hidden layer of the same width (`tanh`, Adam, batch 32) by `partial_fit`, against our training alone.",
        _speeds(results["sklearn"]["rows"], "MLPClassifier"),
        *_limit(results["limit"]),
        *_growth(results),
        *_learning(results),
        *_serving(results),
    ]
    return "\n\n".join(parts) + "\n"


def picture(results: dict[str, Any]) -> str:
    """Samples per second of everybody, by shape, as SVG."""
    groups = []
    for title, d, t in (("D 5, H 16", 5, 1), ("D 384, H 16", 384, 1), ("T 8, D 5, H 16", 5, 8)):
        found = {
            "PyTorch": _row(results["pytorch"]["rows"], d, t),
            "scikit-learn MLP": _row(results["sklearn"]["rows"], d, t),
            "Tiny Dancer": _row(results["tiny_dancer"]["rows"], d, t),
        }
        limit = _row([row for row in results["limit"]["rows"] if row["batch"] == 32], d, t)
        lines = [] if limit is None else [Bar("the machine's limit", limit["limit"], "")]
        first = found["PyTorch"]
        if first is not None:
            share = "" if limit is None else f"{limit['fraction']:.0%} of the limit"
            lines.append(Bar("streamtrain", first["ours"], share))
        for who, row in found.items():
            if row is not None:
                what = ", both splits evaluated as well" if who == "Tiny Dancer" else ""
                lines.append(Bar(who, row["peer"], f"ours is {row['ratio']['median']:.0f} ×{what}"))
        if lines:
            groups.append(Group(title, lines))
    return bars("Training: samples a second", "one thread, batch 32, logarithmic axis", groups)


def _row(rows: Rows, d: int, t: int) -> dict[str, Any] | None:
    fitting = [row for row in rows if (row["d"], row["h"], row["t"]) == (d, 16, t)]
    return max(fitting, key=lambda row: row["n"]) if fitting else None


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines.extend("| " + " | ".join(map(str, row)) + " |" for row in rows)
    return "\n".join(lines)


def _rate(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.3g} k"


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3g} × ({ratio['low']:.3g} to {ratio['high']:.3g})"


def _speeds(rows: Rows, peer: str) -> str:
    head = ("N", "D", "H", "T", "ours, samples/s", f"{peer}, samples/s", "ratio")
    shape = ("n", "d", "h", "t")
    return _table(
        head,
        ((*(f"{r[key]:,}" for key in shape), _rate(r["ours"]), _rate(r["peer"]), _ratio(r["ratio"])) for r in rows),
    )


def _tiny_dancer(found: dict[str, Any]) -> list[str]:
    title = "## Tiny Dancer's released trainer"
    if not found["rows"]:
        return [title, f"Not measured: {found['missing']}."]
    return [
        title,
        f"`trainRouter` of npm's `@ruvector/tiny-dancer` (it calls itself {found['version']}) on the same rows. An "
        "epoch trains on 80 % and evaluates both splits, theirs and ours; a sample is one of either split. Theirs is "
        "the difference between two runs of different length, so that neither Node's start nor handing over the "
        f"rows counts. Its process used {found['processors_used']:.2f} processors.",
        _speeds(found["rows"], "Tiny Dancer"),
    ]


def _pytorch(found: dict[str, Any]) -> list[str]:
    slices = sorted({f"{row['peer_n']:,} at T = {row['t']}" for row in found["rows"]})
    return [
        "## PyTorch",
        "Training alone: shuffle, forward, loss, backward, clipping, L2, Adam. PyTorch runs the same cell eagerly, the "
        "gates' products stacked, without reset gate and recurrence where T = 1, with its fused Adam. Its time does "
        f"not depend on N, so its epoch is over the first sequences only ({'; '.join(slices)}); ours is over all N.",
        _speeds(found["rows"], "PyTorch"),
        "For information, PyTorch at a batch of 16,384, which takes 512 times fewer steps an epoch and so learns "
        "less in it; ours stays at 32:",
        _speeds(found["full_batch"], "PyTorch at 16,384"),
    ]


def _limit(found: dict[str, Any]) -> list[str]:
    rates = found["rates"]
    counted = [(what, *parts.values()) for what, parts in found["formula"].items()]
    head = ("D", "H", "T", "batch", "operations", "tanh", "limit", "limit without optimiser", "ours", "ours / limit")
    rows = (
        (
            r["d"], r["h"], r["t"], r["batch"], f"{r['operations']:,.0f}", f"{r['tanh']:,.0f}", _rate(r["limit"]),
            _rate(r["limit_without_optimiser"]), _rate(r["ours"]),
            f"{r['fraction']:.0%} ({r['low']:.0%} to {r['high']:.0%})",
        )
        for r in found["rows"]
    )  # fmt: skip
    return [
        "## The machine's own limit",
        "What one thread could do if it did the arithmetic of training and nothing else: no gathering, no loads beyond "
        "the first-level cache, no sums across lanes, no padding. Measured with the kernels' own building blocks on "
        f"data in that cache: {rates[OPERATIONS] / 1e9:.0f} G multiply-adds/s, {rates[TANH] / 1e9:.1f} G tanh/s, "
        f"{rates[SIGMOID] / 1e9:.1f} G sigmoids with softplus/s, {rates[PARAMETERS] / 1e9:.1f} G parameters/s in the "
        "optimiser (L2, norm, Adam). Operations a sample, by formula (an addition, a multiplication and a fused "
        "multiply-add are one operation each):",
        _table(("", "forward", "backward", "activations", "optimiser"), counted),
        "The blocks run in turns with ours; a batch of 1,024 hides the optimiser.",
        _table(head, rows),
    ]


def _growth(results: dict[str, Any]) -> list[str]:
    cost, memory = results["cost"], results["memory"]
    rows = [(f"{a['n']:,}", _rate(a["rate"]), f"{a['relative']:.2f}", _rate(b["rate"]), f"{b['relative']:.2f}")
            for a, b in zip(cost["training"], cost["whole epoch"], strict=True)]  # fmt: skip
    used = [(PATHS[r["path"]], *(f"{r[key]:,.0f}" for key in ("imported_mib", "compiled_mib", "raw_mib", "peak_mib")),
             f"{r['ratio']:.2f}") for r in memory["rows"]]  # fmt: skip
    return [
        "## As the data set grows",
        "H 16, D 5, batch 32. The cost of a sample relative to that at 10,000.",
        _table(("N", "training, samples/s", "relative cost", "whole epoch, samples/s", "relative cost"), rows),
        f"Peak memory of {memory['n']:,} samples of 5 features, each path in a process of its own, in MiB. The "
        "ratio is (peak - after a first small training) / raw arrays, the raw arrays themselves included.",
        _table(("path", "after imports", "after a first training", "raw arrays", "peak", "ratio"), used),
    ]


def _learning(results: dict[str, Any]) -> list[str]:
    rows = ((r["problem"], r["who"], f"{r['log_loss']:.4f}", f"{r['accuracy']:.4f}", f"{r['auc']:.4f}")
            for r in results["learning"])  # fmt: skip
    sizes = {f"{r['problem']}: {r['n_train']:,} and {r['n_test']:,}" for r in results["learning"]}
    same = (
        (r["t"], f"{r['n']:,}", r["epochs"], *(f"{r[key]:.6f}" for key in ("ours", "float32", "float64")),
         f"{r['ours'] / r['float64'] - 1:+.1e}")
        for r in results["agreement"]
    )  # fmt: skip
    return [
        "## What is learned",
        "After 20 epochs at H 16, batch 32, rate 0.001: everybody trains on 80 % of the training samples (Tiny Dancer "
        "chooses its own 80 %) and answers the test samples; the weights of the last epoch, medians over seeds. "
        f"Samples for training and test, {'; '.join(sorted(sizes))}.",
        _table(("problem", "who", "test log loss", "test accuracy", "test AUC"), rows),
        "PyTorch starts from our initial weights (Glorot), Tiny Dancer from U(-0.1, 0.1); so does ours in the line "
        '"from small weights".',
        "From the same initial weights and over the very same batches, with the guide's settings (L2, clipping, "
        "decay), the validation loss after the last epoch:",
        _table(("T", "N", "epochs", "ours", "PyTorch float32", "PyTorch float64", "ours, relative to float64"), same),
    ]


def _serving(results: dict[str, Any]) -> list[str]:
    calls = ((r["h"], r["call"], f"{r['median_us']:.2f}", f"{r['p99_us']:.2f}") for r in results["latency"])
    sizes = ((r["h"], r["n_parameters"], r["weights_bytes"], r["scales_bytes"], r["biases_bytes"],
              f"{r['per_parameter']:.3f}", f"{r['per_weight']:.3f}") for r in results["sizes"])  # fmt: skip
    cost = ((r["name"], f"{r['n_test']:,}", f"{r['float']:.4f}", f"{r['int8']:.4f}", f"{r['points']:+.3f}",
             f"{r['worst']:+.2f} (a sample is {r['sample']:.2f})", f"{r['int8_auc'] - r['float_auc']:+.5f}",
             f"{r['largest_change']:.4f}") for r in results["rounding"])  # fmt: skip
    return [
        "## Serving",
        "Calls of `Router` in a tight Python loop, on a published version (INT8 weights, D 5), with its thread that "
        "follows `current`; the clock's own reading is included. Compiled: `Router(..., compiled=True)`.",
        _table(("H", "call", "median, µs", "p99, µs"), calls),
        "## INT8",
        "Bytes of the D 5 models. The target counts weights and scales against all parameters.",
        _table(("H", "parameters", "weights", "scales", "biases", "bytes a parameter", "bytes a weight"), sizes),
        "Accuracy on the last 30 % by time of each recorded data set, H 16, settings by `preset: auto`, means over "
        "seeds. The data sets are made from those of RouteLLM (Apache-2.0), LLMRouter (MIT) and river (BSD-3).",
        _table(
            ("data set", "test samples", "float", "INT8", "points", "worst seed, points", "AUC",
             "largest change of a probability"), cost,
        ),
    ]  # fmt: skip
