"""A damaged database is set aside with a time stamp and rebuilt from the logs; models are not touched."""

import json
import sqlite3

import pytest
from simulated_logs import lines, rows, write_config

from streamtrain.config import load
from streamtrain.dataset.errors import StoreBusyError, StoreDamagedError
from streamtrain.dataset.rescue import open_store
from streamtrain.dataset.store import Store
from streamtrain.intake import Intake
from streamtrain.ops.status import collect


@pytest.fixture
def config(tmp_path):
    config = load(write_config(tmp_path))
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(200)))
    (tmp_path / "logs" / "gone.jsonl").write_bytes(lines(rows(50, seed=1, first_id=1000)))
    config.models.directory.mkdir(parents=True, exist_ok=True)
    (config.models.directory / "receipts.jsonl").write_text("{}\n")
    return config


def damage(path, kind):
    data = bytearray(path.read_bytes())
    if kind == "rubbish":
        data = bytearray(b"rubbish" * 1000)
    elif kind == "header":
        data[16:24] = b"\xff" * 8
    elif kind == "pages":
        data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["rubbish", "header", "pages"])
def test_set_aside_with_a_time_stamp_and_rebuilt_from_the_logs_still_there(config, caplog, kind):
    with Intake(config) as intake:
        assert intake.ingest().samples == 250
        intake.store.sync()
    path = config.state.directory / "state.db"
    damage(path, kind)
    broken = path.read_bytes()
    (config.logs.directory / "gone.jsonl").unlink()
    with Intake(config, clock=lambda: 1_800_000_000.0) as intake:
        assert intake.ingest().samples == 200
        assert intake.ingest().samples == 0
    (aside,) = [found for found in path.parent.glob("state.db.damaged-*") if found.name[-4:] not in ("-wal", "-shm")]
    assert aside.name == "state.db.damaged-1800000000"
    assert aside.read_bytes()[4096:] == broken[4096:]
    assert "the state database is damaged" in caplog.text
    assert "published models stay" in caplog.text
    told = collect(config)["rebuilt"]
    assert told["aside"] == str(aside)
    json.dumps(told)
    assert (config.models.directory / "receipts.jsonl").read_text() == "{}\n"
    with Intake(config) as intake:
        assert intake.store.counts().n_samples == 200


def test_damage_found_while_reading_is_dealt_with_in_the_same_pass(config, caplog):
    with Intake(config) as intake:
        intake.ingest()
        intake.store.sync()
        damage(config.state.directory / "state.db", "pages")
        intake.store._db.execute("PRAGMA shrink_memory")
        (config.logs.directory / "b.jsonl").write_bytes(lines(rows(30, seed=2, first_id=5000)))
        assert intake.ingest().samples == 280
    assert "the state database is damaged" in caplog.text


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 1")
        other.execute("CREATE TABLE t (a)")
    other.close()
    with pytest.raises(StoreDamagedError, match="another program"):
        open_store(path, "digest", max_samples=10)
    assert [found.name for found in tmp_path.iterdir() if "damaged" in found.name] == []


def test_a_database_in_use_is_not_set_aside(tmp_path):
    path = tmp_path / "state.db"
    with Store(path, "digest"), pytest.raises(StoreBusyError):
        open_store(path, "digest", max_samples=10)
