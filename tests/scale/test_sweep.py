"""Settings tried side by side: what is tried, what is left out, and what wins."""

import json
from xml.etree import ElementTree as ET

import pytest
import yaml
from inline_cluster import inline
from simulated_logs import lines, rows, write_config
from test_cycle import command

from streamtrain.config import load
from streamtrain.scale.inputs import plan
from streamtrain.scale.loading import read
from streamtrain.scale.sweep import SettingsError, choices, sweep, with_settings
from streamtrain.scale.sweep_plot import picture


def test_a_grid_is_all_combinations_and_draws_are_repeatable():
    grid = ("training.learning_rate=0.001,0.01", "model.hidden_dim=4,8,16")
    assert len(choices(grid, None, 0)) == 6
    assert choices(grid, None, 0)[0] == {"training.learning_rate": 0.001, "model.hidden_dim": 4}
    drawn = choices(("training.learning_rate=0.0001..0.1", "model.hidden_dim=4..32"), 40, 1)
    assert drawn == choices(("training.learning_rate=0.0001..0.1", "model.hidden_dim=4..32"), 40, 1)
    rates = [one["training.learning_rate"] for one in drawn]
    assert all(0.0001 <= rate <= 0.1 for rate in rates)
    assert 8 <= sum(rate < 0.00316 for rate in rates) <= 32  # uniform in its logarithm
    assert {type(one["model.hidden_dim"]) for one in drawn} == {int}


@pytest.mark.parametrize(
    ("grid", "draws", "reason"),
    [
        ((), None, "nothing to try"),
        (("training.learning_rate",), None, "expected KEY"),
        (("dataset.window=1,2",), None, "sections training or model"),
        (("model.sequence_length=1,2",), None, "not model.sequence_length"),
        (("training.l2_reg=0.1..0.2",), None, "--draws"),
        (("training.l2_reg=0.2..0.1",), 3, "the first below the second"),
        (("model.hidden_dim=[",), None, "can't be read"),
        (tuple(f"training.{name}=1,2,3,4,5,6,7,8,9,10,11" for name in "abcd"), None, "combinations"),
    ],
)
def test_what_makes_no_sense_is_refused(grid, draws, reason):
    with pytest.raises(SettingsError, match=reason):
        choices(grid, draws, 0)


def test_settings_are_checked_as_in_a_file(tmp_path):
    config = load(write_config(tmp_path, "schema: {features: {field: x, dim: 3}}\ntraining: {epochs: 7}\n"))
    changed = with_settings(config, {"model.hidden_dim": 9})
    assert (changed.model.hidden_dim, changed.training.epochs, changed.schema) == (9, 7, config.schema)
    for wrong in ({"model.hidden_dim": -1}, {"training.learning_rat": 1}):
        with pytest.raises(SettingsError, match=next(iter(wrong)).partition(".")[2]):
            with_settings(config, wrong)


def swept(tmp_path, seed, n=2):
    config = load(write_config(tmp_path, "training: {preset: medium, epochs: 18}\n"))
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(4000)))
    tried = choices(("training.learning_rate=0.00001,0.005,10", "model.hidden_dim=2,8,16"), None, 0)
    with inline(n, seed) as cluster:
        inputs = read(cluster, config, plan(config, [str(tmp_path / "logs")], {}, 100_000, 0.0), {}, lambda *done: None)
        return sweep(config, tried, cluster, inputs, 2000, 3, 2)


def test_the_better_third_goes_on_for_three_times_as_long(tmp_path):
    done = swept(tmp_path, 0)
    assert 1800 < done.n_train < 2200
    assert [sum(one.rung == rung for one in done.trials) for rung in range(3)] == [9, 3, 1]
    assert [max(one.epochs for one in done.trials if one.rung == rung) for rung in range(3)] == [2, 6, 18]
    for rung in range(2):
        went_on = {repr(one.settings) for one in done.trials if one.rung == rung + 1}
        losses = [one for one in done.trials if one.rung == rung]
        assert went_on == {repr(one.settings) for one in losses[: len(went_on)]}
        finite = [one.loss for one in losses if one.loss is not None]
        assert finite == sorted(finite)
    best = done.trials[-1]
    assert best.settings["training.learning_rate"] == 0.005
    preset = yaml.safe_load(done.preset)
    assert preset == {"training": {"learning_rate": 0.005}, "model": {"hidden_dim": best.settings["model.hidden_dim"]}}
    assert done == swept(tmp_path, 7, 3)
    root = ET.fromstring(picture(done.trials))
    assert sum(one.tag.endswith("polyline") for one in root) == 9


def test_the_command_writes_a_preset_that_a_configuration_takes(tmp_path):
    config = write_config(tmp_path, "training: {preset: medium, epochs: 4}\n")
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(2000)))
    grid = ("--grid", "training.learning_rate=0.0001,0.005")
    arguments = ("sweep", str(tmp_path / "logs"), "--config", str(config), *grid, "--workers", "2")
    ended = command(*arguments, "--out", tmp_path / "best.yaml", "--plot", tmp_path / "plot.svg", "--json")
    assert len(json.loads(ended.stdout)["trials"]) == 3
    (tmp_path / "again").mkdir()
    again = load(write_config(tmp_path / "again", (tmp_path / "best.yaml").read_text()))
    assert again.training.learning_rate == 0.005
    ET.fromstring((tmp_path / "plot.svg").read_text())
    shown = command(*arguments)
    assert "validation loss" in shown.stdout
    wrong = command("sweep", "x", "--config", str(config), "--grid", "model.hidden_dim=-1", check=False)
    assert (wrong.returncode, "hidden_dim" in wrong.stderr) == (2, True)
