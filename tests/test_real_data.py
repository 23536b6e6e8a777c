"""Real routing outcomes: published where the floor allows it, refused with advice where it does not."""

import gzip
import json
import re
import subprocess
import sys
from statistics import median

import numpy as np
import pytest
from simulated_logs import write_config

from streamtrain import Router
from streamtrain.judge.metrics import auc

SCHEMA = "schema: {features: {field: features, dim: 48}, session: session_id}\n"
LINES = {"routellm_mixtral": 13_057, "llmrouter_llama8b": 5_192}

pytestmark = pytest.mark.needs_data


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", LINES)
def test_once_publishes_and_accounts_for_every_line(tmp_path, shared_data, name):
    config = write_config(tmp_path, SCHEMA + "gate: {min_accuracy: 0.68}\n")
    (tmp_path / "logs" / "real.jsonl.gz").write_bytes((shared_data / f"{name}.jsonl.gz").read_bytes())
    told = run("once", "--config", config)
    assert told["ingested"] == {
        "lines": LINES[name],
        "samples": LINES[name],
        "duplicates": 0,
        "quarantined": 0,
        "pending": 0,
    }
    assert sum(told["window"].values()) == LINES[name]
    assert told["decision"]["outcome"] == "published", told["decision"]["reason"]


def test_the_default_floor_is_out_of_reach_and_the_receipt_says_what_is_in_reach(tmp_path, shared_data):
    config = write_config(tmp_path, SCHEMA)
    (tmp_path / "logs" / "real.jsonl.gz").write_bytes((shared_data / "routellm_mixtral.jsonl.gz").read_bytes())
    decision = run("once", "--config", config)["decision"]
    assert decision["outcome"] == "rejected"
    assert not (tmp_path / "models" / "current").exists()
    receipt = json.loads((tmp_path / "models" / "receipts.jsonl").read_text().splitlines()[-1])
    assert "0.85" in receipt["reason"]
    assert "out of reach" in receipt["advice"]
    assert "makes sense" in receipt["advice"]
    named = [float(number) for number in re.findall(r"0\.\d+", receipt["advice"])]
    assert any(0.65 < floor < 0.75 for floor in named)


@pytest.mark.parametrize(
    ("name", "least_accuracy", "least_auc"),
    [("routellm_mixtral", 0.708, 0.720), ("llmrouter_llama8b", 0.708, 0.770)],
)
def test_the_served_model_learns_as_much_as_a_plain_fastgrnn(tmp_path, shared_data, name, least_accuracy, least_auc):
    with gzip.open(shared_data / f"{name}.jsonl.gz") as log:
        lines = log.readlines()
    cut = int(0.7 * len(lines))
    (tmp_path / "first.jsonl").write_bytes(b"".join(lines[:cut]))
    later = [json.loads(line) for line in lines[cut:]]
    labels = np.array([one["lightweight_successful"] for one in later], np.float64)
    features = np.array([one["features"] for one in later])
    accuracies, aucs = [], []
    for seed in range(5):
        config = write_config(tmp_path, SCHEMA + f"dataset: {{seed: {seed}}}\ngate: {{min_accuracy: 0.6}}\n")
        models = tmp_path / f"models-{seed}"
        told = run("train", tmp_path / "first.jsonl", "--models", models, "--config", config)
        assert told["decision"]["outcome"] == "published", told["decision"]["reason"]
        with Router(models) as router:
            scores = router.score_batch(features)
        accuracies.append(float(np.mean((scores >= 0.5) == (labels >= 0.5))))
        aucs.append(auc(labels, scores))
    assert median(accuracies) >= least_accuracy, accuracies
    assert median(aucs) >= least_auc, aucs
