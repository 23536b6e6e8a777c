"""The report of a version: every figure is the stored one, everything is escaped, and it needs nothing else."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from make_candidate import make_candidate
from simulated_logs import FEATURES, lines, rows, write_config

from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.ops.page.report import report_of
from streamtrain.publish.artifact import build
from streamtrain.publish.refusals import read_refused
from streamtrain.publish.registry import Registry

sys.path.append(str(Path(__file__).parent))
from page_case import NASTY

FEATURE = "<script>alert('f')</script>{{7*7}}"
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Elements, texts, and the figures (`data-key` → value)."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.figures, self.open = [], [], [], {}, []
        self.unclosed = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attrs]
        given = dict(attrs)
        if tag == "data":
            assert given["data-key"] not in self.figures, given["data-key"]
            self.figures[given["data-key"]] = json.loads(given["value"])
        if tag not in VOID and tag != "!doctype":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def sliced_rows(n, **options):
    found = rows(n, **options)
    for number, one in enumerate(found):
        one[FEATURE] = one.pop(FEATURES[0])
        one["task"] = (NASTY, "maths", "law", None)[number % 4]
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two versions and a refused candidate, by the real cycle."""
    folder = tmp_path_factory.mktemp("report")
    features = json.dumps([FEATURE, *FEATURES[1:]])
    text = f"schema: {{features: {features}, slice: task}}\ngate: {{min_accuracy: 0.8, versus_current: 'off'}}\n"
    config = write_config(folder, text)
    with Cycle(load(config)) as cycle:
        for number, options in enumerate(({}, {}, {"noise": 4.0})):
            with (folder / "logs" / "a.jsonl").open("ab") as log:
                log.write(lines(sliced_rows(2000, seed=number, first_id=2000 * number, **options)))
            cycle.ingest()
            outcome = cycle.learn().outcome
    assert outcome == "rejected"
    return config, Registry(folder / "models")


def checked(page):
    """What holds for every report."""
    parsed = Page(page)
    assert parsed.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "input", "base", "a"} & set(parsed.tags)
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "href", "xlink:href", "action", "style", "srcset"), (tag, name, value)
    text = page.decode()
    assert not re.search(r"https?://|url\(|@import|javascript:|//[a-z]", text.replace("<!doctype", ""))
    assert "default-src 'none'" in text
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    return parsed


def stored(figures, prefix, kept):
    return {f"{prefix}.{key}": figures[key] for key in kept}


def expected_figures(metrics, gate):
    holdout = metrics["holdout"]
    shown = holdout["figures"]
    expected = {f"holdout.{key}": holdout[key] for key in ("accuracy", "auc", "log_loss", "ece", "n_samples")}
    expected |= {f"confusion.{key}": value for key, value in holdout["confusion"].items()}
    expected |= {"reliability.ece": holdout["ece"], "influence.n_samples": shown["influence"]["n_samples"]}
    for number, rule in enumerate(gate["rules"]):
        expected |= stored(rule, f"rules.{number}", ("figure", "bound"))
    for section, keys in {
        "reliability": ("said", "happened", "n"),
        "slices": ("n", "accuracy", "current_accuracy", "log_loss", "base_rate"),
        "time": ("from", "n", "accuracy", "current_accuracy", "base_rate"),
        "points": ("threshold", "share", "accuracy", "spoilt"),
        "cost": ("threshold", "share", "accuracy", "spoilt"),
    }.items():
        for number, one in enumerate(shown[section]):
            expected |= stored(one, f"{section}.{number}", keys)
    for number, one in enumerate(shown["influence"]["features"]):
        expected[f"influence.{number}.loss"] = one["loss"]
    return expected


def test_every_figure_of_a_version_is_the_stored_one(models):
    registry = models[1]
    first, second = registry.names()
    for version in (first, second):
        manifest, metrics = registry.report(version)
        page = checked(report_of(registry, version))
        assert page.figures == expected_figures(metrics, manifest["gate"])
        shown = metrics["holdout"]["figures"]
        assert {one["slice"] for one in shown["slices"]} == {NASTY, "maths", "law", None}
        assert (shown["current"] is None) == (version == first)
        assert (shown["slices"][0]["current_accuracy"] is None) == (version == first)
        assert FEATURE in {one["feature"] for one in shown["influence"]["features"]}
        assert page.tags.count("circle") == len(shown["reliability"]) + len(shown["time"]) + 2
        for rule in manifest["gate"]["rules"]:
            assert rule["text"] in page.words
            assert rule["name"] in page.words


def test_names_from_the_log_are_text(models):
    page = report_of(models[1], models[1].names()[-1])
    parsed = checked(page)
    assert NASTY in parsed.words
    assert FEATURE in parsed.words
    assert b"<script" not in page
    assert b"<img" not in page
    assert "49" not in [one for one in parsed.words.split() if one == "49"]


def test_a_refused_candidate_has_a_report_too(models):
    registry = models[1]
    page = checked(report_of(registry, "refused"))
    (last,) = read_refused(registry.models_dir)
    assert page.figures == expected_figures(last["metrics"], last["manifest"]["gate"])
    assert "Refused by the gate" in page.words
    assert last["manifest"]["gate"]["reason"] in page.words
    receipt = registry.receipts.read(1)[0]
    assert receipt["outcome"] == "rejected"
    assert last["manifest"]["gate"]["rules"] == receipt["rules"]
    assert len(json.dumps(last)) < 32_000


def test_versions_without_figures_say_so(tmp_path):
    registry = Registry(tmp_path / "models")
    with registry:
        plain = registry.publish(registry.stage(build(make_candidate(1))))
        odd = registry.publish(
            registry.stage(build(make_candidate(2))),
            None,
            {"accuracy": 0.9, "figures": {"reliability": [{"n": "<script>", "said": 7}]}},
        )
    for version in (plain, odd):
        page = checked(report_of(registry, version))
        assert page.words.count("not recorded") >= 5
        assert "Not judged" in page.words


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words)], capture_output=True, check=False, timeout=300
    )


def test_the_command_writes_it(models, tmp_path, monkeypatch):
    config, registry = models
    monkeypatch.chdir(tmp_path)
    current = registry.current()
    expected = report_of(registry, current)
    first = registry.names()[0]
    told = json.loads(run("versions", "--config", config, "--report", "--json").stdout)
    assert told == {"version": current, "report": f"streamtrain-{current}.html", "bytes": len(expected)}
    assert Path(told["report"]).read_bytes() == expected
    ended = run("versions", first, "--config", config, "--report", "one.html")
    assert ended.returncode == 0, ended.stderr
    assert Path("one.html").read_bytes() == report_of(registry, first)
    assert run("versions", first, "--report", "-", "--config", config).stdout == report_of(registry, first)
    assert run("versions", "--config", config, "--report", "refused").returncode == 0
    assert Path("streamtrain-refused.html").read_bytes() == report_of(registry, "refused")
    for words, code in (
        (["versions", first, "--config", config], 2),
        (["versions", "v1", "--config", config, "--report"], 1),
        (["versions", first, "--config", config, "--report", tmp_path / "no" / "where.html"], 1),
    ):
        ended = run(*words)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended.stderr
