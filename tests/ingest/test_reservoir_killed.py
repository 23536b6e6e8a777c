"""A commit that drops old samples, killed at any of its I/O calls, neither loses nor doubles one of the reservoir."""


def test_a_kill_at_any_call_of_a_prune(run_beside, tmp_path):
    found = run_beside("kill_reservoir.py", tmp_path)
    assert found["killed"] > 10
    # Before the commit, and between it and the prune that follows in a transaction of its own.
    assert found["200"] > 3
    assert found["260"] > 3
