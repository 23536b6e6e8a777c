"""Hints: they come when something changes, never because of reading, and survive the directory itself."""

import shutil
import threading

import pytest

from streamtrain.ingest.watch import Watcher

LONG_S = 20.0


@pytest.fixture
def logs(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


@pytest.fixture
def watcher(logs):
    made = Watcher(logs)
    yield made
    made.close()


def settle(watcher):
    while watcher.wait(0.2):
        pass


def test_a_change_ends_the_wait(logs, watcher):
    assert watcher.watching
    settle(watcher)
    timer = threading.Timer(0.05, lambda: (logs / "a.jsonl").write_bytes(b"1"))
    timer.start()
    assert watcher.wait(LONG_S)
    timer.join()
    settle(watcher)
    with (logs / "a.jsonl").open("ab") as file:
        file.write(b"2")
        file.flush()
        assert watcher.wait(LONG_S)


def test_reading_is_no_change(logs, watcher):
    (logs / "a.jsonl").write_bytes(b"1")
    settle(watcher)
    assert (logs / "a.jsonl").read_bytes() == b"1"
    assert list(logs.iterdir())
    assert not watcher.wait(0.3)


# Under load the library's thread was seen to die of directories that are made while it begins to watch them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_new_directories_are_watched_too(logs):
    heard = False
    for attempt in range(3):
        watcher = Watcher(logs)
        (logs / str(attempt) / "deep").mkdir(parents=True)
        settle(watcher)
        (logs / str(attempt) / "deep" / "a.jsonl").write_bytes(b"1")
        heard = heard or watcher.wait(LONG_S)
        watcher.close()
    assert heard


def test_the_directory_may_come_and_go(tmp_path):
    logs = tmp_path / "later"
    watcher = Watcher(logs)
    try:
        assert not watcher.watching
        assert not watcher.wait(0.05)
        for _ in range(2):
            logs.mkdir()
            assert watcher.wait(LONG_S)
            assert watcher.watching
            settle(watcher)
            (logs / "a.jsonl").write_bytes(b"1")
            assert watcher.wait(LONG_S)
            shutil.rmtree(logs)
            settle(watcher)
            assert not watcher.watching
    finally:
        watcher.close()


def test_wake_ends_the_wait_from_another_thread(watcher):
    settle(watcher)
    timer = threading.Timer(0.05, watcher.wake)
    timer.start()
    assert watcher.wait(LONG_S)
    timer.join()


def test_close_leaves_no_thread(logs):
    before = threading.active_count()
    watcher = Watcher(logs)
    assert threading.active_count() > before
    watcher.close()
    watcher.close()
    assert threading.active_count() == before
