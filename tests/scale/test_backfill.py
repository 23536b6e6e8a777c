"""A backlog on real workers: the same bits whoever does what, whoever dies, and in any order."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import click
import dask
import numpy as np
import pytest
from dask.distributed import LocalCluster
from inline_cluster import inline
from simulated_logs import lines, rows, write_config
from test_cycle import command

from streamtrain.cli.scale import storage_options
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.dataset.split import VALIDATION, in_fraction
from streamtrain.intake import held_out, judges
from streamtrain.kernels import epoch as kernel
from streamtrain.publish.lock import LockedError
from streamtrain.replay import replay
from streamtrain.router.load import load as load_version
from streamtrain.scale.backfill import backfill
from streamtrain.scale.cluster import Cluster, ClusterError, StoppedError
from streamtrain.scale.rounds import Trained, mean_of
from streamtrain.train.fit import Moved

QUICK = "training: {preset: medium, epochs: 6}\ngate: {min_accuracy: 0.5}\n"
N = 6000


def write_backlog(folder, n=N):
    """Four files and a hundredth of rubbish; some records stand in two files."""
    logs = folder / "backlog"
    logs.mkdir()
    for number in range(4):
        some = rows(n // 4 + 50, seed=number, first_id=number * n // 4)
        data = lines(some)
        (logs / f"day-{number}.jsonl").write_bytes(data + b"rubbish\n" * (n // 400))
    return logs


@contextmanager
def workers(n, **options):
    with Cluster(None, n, **options) as cluster:
        yield cluster


def run(folder, name, cluster, logs, text=QUICK, part_bytes=100_000, tell=lambda *done: None, **options):
    place = folder / name
    place.mkdir()
    config = load(write_config(place, text))
    with Cycle(config, clock=lambda: 1.8e9) as cycle:
        done = backfill(cycle, [str(logs)], cluster, {}, part_bytes, 1.8e9, tell=tell, **options)
    return config, done


def digests_of(config, version):
    manifest = json.loads((config.models.directory / "versions" / version / "manifest.json").read_text())
    return {name: file["sha256"] for name, file in manifest["files"].items() if name.endswith(".safetensors")}


def bits(config, done):
    return digests_of(config, done.decision.version)


@pytest.fixture(scope="module")
def backlog(tmp_path_factory):
    return write_backlog(tmp_path_factory.mktemp("backlog"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, backlog):
    """What comes of it without any Dask, one task after the other."""
    with inline() as cluster:
        return run(tmp_path_factory.mktemp("alone"), "alone", cluster, backlog)


def test_what_is_published_is_counted_and_judged_as_the_daemons_is(alone, tmp_path, backlog):
    config, done = alone
    assert done.decision.outcome == "published"
    assert (done.report.lines, done.report.samples, done.report.duplicates) == (N + 200 + N // 100, N + 50, 150)
    assert (done.report.quarantined, len(done.examples)) == (N // 100, N // 100)
    assert done.n_files == 4
    assert done.n_parts > 8
    assert sum(done.sizes.values()) == N + 50
    again = load(write_config(tmp_path, QUICK))
    for file in backlog.iterdir():
        (tmp_path / "logs" / file.name).write_bytes(file.read_bytes())
    with Cycle(again) as cycle:
        report = cycle.ingest()
    ours = done.report
    assert (ours.lines, ours.samples, ours.duplicates, ours.quarantined) == (
        *(report.lines, report.samples, report.duplicates, report.quarantined),
    )
    with Cycle(config) as cycle:
        kept, counts = cycle.store.quarantine(1000), cycle.store.counts()
    assert (len(kept), counts.n_quarantined, counts.n_samples) == (N // 100, N // 100, 0)
    assert {one.reason for one in kept} == {one.reason for one in done.examples}


def test_the_manifest_names_every_part(alone, backlog):
    config, done = alone
    version = config.models.directory / "versions" / done.decision.version
    manifest = json.loads((version / "manifest.json").read_text())
    parts = manifest["lineage"]["backfill"]["parts"]
    assert sum(part["samples"] for part in parts) == N + 200
    for file in backlog.iterdir():
        own = [part for part in parts if part["path"].endswith(f"/{file.name}")]
        edges = [part["read"] for part in own]
        assert edges[0][0] == 0
        assert edges[-1][1] == file.stat().st_size
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    told = replay(config, done.decision.version)
    assert not told.identical
    assert "streamtrain backfill --part-bytes 100000` of 4 files" in told.missing[0]
    assert load_version(version).features == config.schema.feature_names


def test_nothing_that_judges_is_learned_from(alone, tmp_path, backlog):
    config, done = alone
    ids = [one["id"] for number in range(4) for one in rows(N // 4 + 50, seed=number, first_id=number * N // 4)]
    again = load(write_config(tmp_path))
    (tmp_path / "logs" / "a.jsonl").write_bytes(b"".join(file.read_bytes() for file in sorted(backlog.iterdir())))
    with Cycle(again) as cycle:
        cycle.ingest()
        samples = cycle.intake.window(cycle.store, 1.8e9).samples
    assert len(samples.keys) == len(set(ids))
    free = ~held_out(config, samples.groups)
    chosen = in_fraction(samples.groups, 0.15, config.dataset.seed, VALIDATION) & free
    counted = {"train": int((free & ~chosen).sum()), "validation": int(chosen.sum())}
    assert dict(done.sizes) == counted | {"holdout": int(judges(config, samples.groups).sum())}


@pytest.mark.parametrize(("n", "seed"), [(1, 1), (2, 2), (4, 3), (3, 4)])
def test_the_bits_are_the_same_in_any_order_of_completion(alone, tmp_path, backlog, n, seed):
    with inline(n, seed) as cluster:
        assert bits(*run(tmp_path, "again", cluster, backlog)) == bits(*alone)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_bits_are_the_same_for_any_number_of_workers(alone, tmp_path, backlog, n):
    with workers(n) as cluster:
        config, done = run(tmp_path, "again", cluster, backlog)
    assert bits(config, done) == bits(*alone)
    assert done.report == alone[1].report


def test_workers_killed_in_mid_round_cost_nothing_but_time(alone, tmp_path, backlog):
    killed = []

    def kill(what, n_done, n_total):
        if what != "training" or len(killed) == 5:
            return
        with lock:
            if len(killed) < 5 and n_done > len(killed):
                pids = list(cluster.client.run(os.getpid, on_error="ignore").values())
                victim = next(pid for pid in pids if isinstance(pid, int) and pid not in killed)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    lock = threading.Lock()
    with workers(2) as cluster:
        config, done = run(tmp_path, "again", cluster, backlog, tell=kill)
    assert len(set(killed)) == 5
    assert bits(config, done) == bits(*alone)
    assert done.report == alone[1].report


def test_a_worker_killed_while_it_reads_costs_nothing_but_time(alone, tmp_path, backlog):
    killed = []

    def kill(what, n_done, n_total):
        if what == "reading" and not killed:
            killed.append(next(iter(cluster.client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    with workers(2) as cluster:
        assert bits(*run(tmp_path, "again", cluster, backlog, tell=kill)) == bits(*alone)
    assert killed


FORMS = {
    "pruned": "training: {preset: medium, epochs: 4, prune: 0.5, quantization_aware_epochs: 2}\n"
    "gate: {min_accuracy: 0.5}\n",
    "factors": "training: {preset: medium, epochs: 6}\nmodel: {rank: 2}\ngate: {min_accuracy: 0.5}\n",
    "sessions": "schema: {session: user}\nmodel: {sequence_length: 4}\ntraining: {preset: medium, epochs: 60}\n"
    "gate: {min_accuracy: 0.5}\n",
    "promise": "router: {max_error: 0.1}\ntraining: {preset: medium, epochs: 6}\ngate: {min_accuracy: 0.5}\n",
    "taught": "schema: {teacher: judged}\ntraining: {preset: medium, epochs: 6}\ngate: {min_accuracy: 0.5}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_all_that_the_daemon_can_train_can_be_trained_in_rounds(tmp_path, form):
    logs = tmp_path / "backlog"
    logs.mkdir()
    for number in range(3):
        some = rows(1200, seed=number, first_id=number * 1200)
        more = [
            one | {"user": i % 300, "judged": 0.9 if one["lightweight_successful"] else 0.1}
            for i, one in enumerate(some)
        ]
        (logs / f"{number}.jsonl").write_bytes(lines(more))
    made = []
    for name, (n, seed) in {"first": (1, 0), "second": (3, 5)}.items():
        with inline(n, seed) as cluster:
            made.append(run(tmp_path, name, cluster, logs, FORMS[form]))
    (config, done), _ = made
    assert done.decision.outcome == "published", done.decision.reason
    assert bits(*made[0]) == bits(*made[1])
    manifest = json.loads((config.models.directory / "versions" / done.decision.version / "manifest.json").read_text())
    names = {one["name"] for one in manifest["lineage"]["challengers"]}
    assert ("distilled" in names) == (form == "taught")
    if form == "promise":
        assert done.sizes["promise"] > 500


def test_records_in_two_lines_are_joined_across_files(tmp_path):
    logs = tmp_path / "backlog"
    logs.mkdir()
    text = QUICK + "schema: {join: {key: task, kind: type}}\n"
    some = rows(3000)
    first = [one | {"type": "decision", "task": one["id"]} for one in some]
    for one in first:
        del one["lightweight_successful"]
    later = [
        {"type": "outcome", "task": one["id"], "timestamp": one["timestamp"] + 5.0}
        | {"lightweight_successful": one["lightweight_successful"]}
        for one in some
    ]
    (logs / "a.jsonl").write_bytes(lines(first))
    (logs / "b.jsonl").write_bytes(lines(later[:2900]))
    made = []
    for name, seed in {"first": 0, "second": 5}.items():
        with inline(2, seed) as cluster:
            made.append(run(tmp_path, name, cluster, logs, text, part_bytes=50_000))
    assert bits(*made[0]) == bits(*made[1])
    report = made[0][1].report
    assert (report.lines, report.samples, report.pending) == (5900, 2900, 100)


def test_a_champion_is_gone_on_from_and_compared_with(tmp_path, backlog):
    config = load(write_config(tmp_path, QUICK + "schema: {id: null}\n"))
    for expected in (None, "published"):
        with Cycle(config) as cycle, inline() as cluster:
            done = backfill(cycle, [str(backlog)], cluster, {}, 100_000, 1.8e9)
        if expected is not None:
            names = {rule.name for rule in done.decision.rules}
            assert "versus_current_loss" in names
    receipts = [json.loads(line) for line in (tmp_path / "models" / "receipts.jsonl").read_text().splitlines()]
    assert "fine-tuned" in {one["name"] for one in receipts[-1]["challengers"]}


def test_what_is_too_little_to_learn_from_is_skipped_with_a_receipt(tmp_path):
    logs = tmp_path / "backlog"
    logs.mkdir()
    for name, data, reason in (
        ("rubbish", b"rubbish\n" * 9, "no sample"),
        ("few", lines(rows(50)), "1,000 are needed"),
    ):
        (logs / "a.jsonl").write_bytes(data)
        with inline() as cluster:
            config, done = run(tmp_path, name, cluster, logs)
        assert done.decision.outcome == "skipped"
        assert reason in done.decision.reason
        assert not (config.models.directory / "current").exists()
        assert len((config.models.directory / "receipts.jsonl").read_text().splitlines()) == 1


def test_one_trainer_at_a_time(tmp_path, backlog):
    config = load(write_config(tmp_path, QUICK))
    with Cycle(config) as first:
        first.registry.acquire()
        (tmp_path / "other").mkdir()
        other = replace(load(write_config(tmp_path / "other", QUICK)), models=config.models)
        with Cycle(other) as second, inline() as cluster, pytest.raises(LockedError):
            backfill(second, [str(backlog)], cluster, {}, 100_000, 1.8e9)


def test_it_can_be_stopped_between_rounds(tmp_path, backlog):
    asked = []

    def tell(what, n_done, n_total):
        if what == "training":
            asked.append(n_done)

    with inline() as cluster, pytest.raises(StoppedError):
        run(tmp_path, "stopped", cluster, backlog, tell=tell, should_stop=lambda: len(asked) > 2)
    assert len(asked) < 8
    assert not (tmp_path / "stopped" / "models" / "current").exists()


def test_the_command(tmp_path, backlog, alone):
    config = write_config(tmp_path, QUICK)
    arguments = (
        "backfill",
        str(backlog),
        "--config",
        str(config),
        "--workers",
        "2",
        "--part-bytes",
        "100000",
        "--json",
    )
    ended = command(*arguments)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["decision"]["outcome"] == "published"
    assert told["ingested"]["samples"] == N + 50
    assert digests_of(load(config), told["decision"]["version"]) == bits(*alone)
    both = command(
        "backfill", "x", "--config", str(config), "--workers", "2", "--scheduler", "tcp://127.0.0.1:1", check=False
    )
    assert (both.returncode, "expected one of them" in both.stderr) == (2, True)
    missing = command("backfill", str(tmp_path / "none.jsonl"), "--config", str(config), check=False)
    assert (missing.returncode, "none.jsonl" in missing.stderr) == (1, True)
    without_dask = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['dask'] = None; from streamtrain.cli import main; main()",
         "backfill", str(backlog), "--config", str(config)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (without_dask.returncode, "install streamtrain[dask]" in without_dask.stderr) == (1, True)


def test_a_task_at_which_workers_die_is_tried_again_even_where_dask_gives_up_at_once(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), workers(1) as cluster:
        assert cluster.gathered([cluster.submit(_dying, str(marks), 3)]) == ["lived"]
    assert len(list(marks.iterdir())) == 3


def _dying(folder, times):
    n = len(list(pathlib.Path(folder).iterdir()))
    if n == times:
        return "lived"
    pathlib.Path(folder, str(n)).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "died"


def test_the_command_works_with_workers_of_somebody_elses(alone, tmp_path, backlog):
    config = write_config(tmp_path, QUICK)
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
        there = ("--scheduler", cluster.scheduler_address, "--storage-option", "auto_mkdir=false")
        ended = command("backfill", backlog, "--config", config, *there, "--part-bytes", "100000", "--json")
    assert digests_of(load(config), json.loads(ended.stdout)["decision"]["version"]) == bits(*alone)
    nobody = command("backfill", backlog, "--config", config, "--scheduler", "nonsense://x", check=False)
    assert (nobody.returncode, "reach the scheduler nonsense://x" in nobody.stderr) == (1, True)


def test_options_of_file_systems():
    given = storage_options(("anon=true", "key=abc", 'client_kwargs={"headers": {"X": "1"}}', "n=7", "empty="))
    assert given == {"anon": True, "key": "abc", "client_kwargs": {"headers": {"X": "1"}}, "n": 7, "empty": ""}
    with pytest.raises(click.UsageError, match="expected KEY=VALUE"):
        storage_options(("anon",))


def test_workers_that_lack_the_program_are_told_of():
    with workers(1) as cluster, pytest.raises(ClusterError, match="expected workers that stay, with this version"):
        cluster.gathered([cluster.submit(_lacking)])


def _lacking():
    raise ModuleNotFoundError("No module named 'streamtrain'")


def test_the_mean_of_parts_goes_by_their_weights_and_not_by_who_came_first(tmp_path):
    def part(index, weight, value, steps):
        column, state = np.full(3, value, np.float32), np.zeros(kernel.N_STATE)
        state[kernel.STEP] = steps
        return Trained(index, weight, Moved(column, column * 2, column * 3, state), np.zeros(4))

    mean = mean_of([part(0, 1.0, 1.0, 10.0), part(1, 3.0, 5.0, 20.0), part(2, 0.0, 99.0, 0.0)])
    np.testing.assert_array_equal(mean.weights, np.full(3, 4.0, np.float32))
    np.testing.assert_array_equal(mean.squares, np.full(3, 12.0, np.float32))
    assert mean.steps[kernel.STEP] == 20.0
    with pytest.raises(ValueError, match="no part has a training sample"):
        mean_of([part(0, 0.0, 1.0, 1.0)])
