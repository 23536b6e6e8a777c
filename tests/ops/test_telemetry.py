"""The metrics: names and form by promtool, the dashboard and the alerts against what is really exported."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamtrain.config import load_service
from streamtrain.dataset.store import Store
from streamtrain.ops.status import PREQUENTIAL
from streamtrain.publish.registry import Registry

sys.path.append(str(Path(__file__).parent))
from page_case import front, published

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"\b(?:streamtrain|process)_[a-z_]+")


def promtool(unavailable, *words, text=None):
    if shutil.which("promtool") is None:
        unavailable("no promtool (Debian's package prometheus)")
    return subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    config = published(folder)
    schema = load_service(config).routers[""].schema
    with Store(folder / "state" / "state.db", schema.digest) as store:
        store.set(PREQUENTIAL, {"accuracy": 0.9, "drift": 0.1, "points": [], "alarms": []})
    shown = front(config, None)
    shown.telemetry.observe("", "train", 0.2)
    text = shown.telemetry.exposition()[0].decode()
    shown.close()
    return folder, text


def value(text, name, **labels):
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_promtool_finds_nothing_to_say(exported, unavailable):
    done = promtool(unavailable, "check", "metrics", text=exported[1])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_figures_are_those_of_the_state(exported):
    folder, text = exported
    receipts = [one for one in Registry(folder / "models").receipts.read() if one.get("event") == "candidate"]
    assert value(text, "streamtrain_lines_total") == 6003
    assert value(text, "streamtrain_samples_total") == 6000
    assert value(text, "streamtrain_quarantined_lines_total") == 3
    outcomes = [one["outcome"] for one in receipts]
    assert value(text, "streamtrain_publishes_total") == outcomes.count("published") >= 1
    assert value(text, "streamtrain_cycles_total", outcome="rejected") == outcomes.count("rejected") >= 1
    assert value(text, "streamtrain_refusals_total", rule="min_accuracy") == outcomes.count("rejected")
    assert value(text, "streamtrain_prequential_accuracy_ratio") == 0.9
    assert value(text, "streamtrain_stage_duration_seconds_count", stage="train") == 1


def test_the_textfile_is_replaced_whole(exported, tmp_path):
    shown = front(exported[0] / "streamtrain.yaml", None, textfile=tmp_path / "m.prom")
    shown.close()
    assert value((tmp_path / "m.prom").read_text(), "streamtrain_lines_total") == 6003
    assert [one.name for one in tmp_path.iterdir()] == ["m.prom"]


def test_everybody_may_read_the_textfile(exported, tmp_path):
    """Whoever scrapes it is another user, and the service's umask keeps its other files from them."""
    before = os.umask(0o077)
    try:
        front(exported[0] / "streamtrain.yaml", None, textfile=tmp_path / "m.prom").close()
    finally:
        os.umask(before)
    assert (tmp_path / "m.prom").stat().st_mode & 0o777 == 0o644


def test_a_textfile_that_cannot_be_written_is_told(exported, tmp_path, caplog):
    front(exported[0] / "streamtrain.yaml", None, textfile=tmp_path / "nowhere" / "m.prom").close()
    assert caplog.text.count("can't be written") == 1


def names(text):
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_the_dashboard_asks_for_what_is_exported(exported):
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = {name for panel in dashboard["panels"] for one in panel["targets"] for name in NAME.findall(one["expr"])}
    assert asked <= names(exported[1])
    assert len(asked) >= 15
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_manual_names_what_is_exported(exported):
    page = (DOCS / "operating.md").read_text()
    for name in names(exported[1]):
        base = re.sub(r"_(bucket|count|sum|created)$", "", name).removeprefix("streamtrain")
        assert base in page or name.startswith("process_") or name == "streamtrain_build_info", name


def test_alerts_are_sound_and_ask_for_what_is_exported(exported, unavailable):
    done = promtool(unavailable, "check", "rules", DOCS / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = set(NAME.findall("".join(re.findall(r"expr: (.*)", (DOCS / "alerts.yml").read_text()))))
    assert asked <= names(exported[1])


def test_alerts_fire_where_they_should(tmp_path, unavailable):
    """promtool plays series against the rules: one that lags, one that doesn't."""
    (tmp_path / "t.yml").write_text(f"""
rule_files: [{DOCS}/alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'streamtrain_lag_seconds{{router="a"}}', values: '90x20'}}
      - {{series: 'streamtrain_lag_seconds{{router="b"}}', values: '1x20'}}
      - {{series: 'streamtrain_lines_total{{router="a"}}', values: '0+100x60'}}
      - {{series: 'streamtrain_quarantined_lines_total{{router="a"}}', values: '0+50x60'}}
      - {{series: 'streamtrain_lines_total{{router="b"}}', values: '0+100x60'}}
      - {{series: 'streamtrain_quarantined_lines_total{{router="b"}}', values: '0+1x60'}}
    alert_rule_test:
      - eval_time: 15m
        alertname: StreamtrainLags
        exp_alerts:
          - exp_labels: {{severity: warning, router: a}}
            exp_annotations:
              summary: Logs of a wait for 1m 30s
              description: More is written than is read, or what is there can't be read.
      - eval_time: 40m
        alertname: StreamtrainQuarantine
        exp_alerts:
          - exp_labels: {{severity: warning, router: a}}
            exp_annotations:
              summary: More than a tenth of the lines of a can't be read
              description: The log's format may have changed; `streamtrain quarantine list` says why.
      - eval_time: 15m
        alertname: StreamtrainGone
        exp_alerts:
          - exp_labels: {{severity: critical}}
            exp_annotations:
              summary: No metrics of streamtrain arrive
              description: The daemon doesn't run, or nobody scrapes it. Routers go on with the version they have.
""")
    done = promtool(unavailable, "test", "rules", tmp_path / "t.yml")
    assert done.returncode == 0, done.stdout + done.stderr
