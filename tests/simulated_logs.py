"""Routing logs of a world that is known, for tests of the whole flow."""

import json

import numpy as np

FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")


def rows(n, seed=0, first_id=0, start=1_700_000_000.0, noise=0.1, flipped=False):
    """The guide's synthetic problem as log records: one a second, with ids."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 5)).round(6)
    score = 0.4 * x[:, 0] + 0.3 * x[:, 3] + 0.3 * (1 - x[:, 4]) + rng.uniform(-noise, noise, n)
    good = (score > 0.5) != flipped
    return [
        {"id": f"r{first_id + i}", "timestamp": start + first_id + i}
        | dict(zip(FEATURES, map(float, x[i]), strict=True))
        | {"lightweight_successful": bool(good[i])}
        for i in range(n)
    ]


def lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write_config(folder, text=""):
    """A configuration whose logs, state and models lie in `folder`."""
    (folder / "logs").mkdir(exist_ok=True)
    file = folder / "streamtrain.yaml"
    file.write_text(
        f"logs: {{directory: {folder}/logs}}\nstate: {{directory: {folder}/state}}\n"
        f"models: {{directory: {folder}/models}}\n{text}"
    )
    return file
