"""A migration that is killed at any of its I/O calls, SQLite's among them, leaves the older or the newer state."""

import pytest


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_kill_at_any_call_of_a_migration(run_beside, tmp_path, version):
    found = run_beside("kill_migration.py", tmp_path, version)
    assert found["killed"] > 60
    assert found[f"version {version}"] > 30
    assert found["version 4"] > 5
