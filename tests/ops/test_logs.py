"""One event, one line, whatever is in it; what repeats is counted."""

import io
import json
import logging
import os

import pytest

from streamtrain.ops.logs import BURST, BURST_S, LineFormatter, LineHandler, about, configure, event, read_by_journal

NASTY = 'a\nb\r\x1b[31m\u202e\udcff\x7f \\ "q" größer'


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def logged():
    """A logger, its stream, and the clock of its handler, for a form."""
    made = []

    def make(**form):
        stream, clock = io.StringIO(), Clock()
        handler = LineHandler(stream, LineFormatter(**({"as_json": False, "journal": False} | form)), clock)
        log = logging.getLogger(f"test.{len(made)}")
        log.handlers, log.propagate, log.level = [handler], False, logging.INFO
        made.append(handler)
        return log, stream, clock, handler

    yield make
    for handler in made:
        handler.close()


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("journal", [True, False])
def test_nothing_that_is_logged_breaks_a_line(logged, as_json, journal):
    log, stream, _, _ = logged(as_json=as_json, journal=journal)
    event(log, logging.WARNING, "left alone", path=NASTY, n=3, none=None)
    log.error("it said:\n%s", NASTY)
    try:
        raise ValueError(NASTY)
    except ValueError:
        log.exception("a fault")
    text = stream.getvalue()
    assert text.count("\n") == 3
    assert all(char.isprintable() or char == "\n" for char in text)


def test_json_gives_the_fields_back(logged):
    log, stream, _, _ = logged(as_json=True)
    with about("chat"):
        event(log, logging.INFO, "published", version="v1", accuracy=0.5, better=True, n=3, none=None, odd=float("inf"))
    told = json.loads(stream.getvalue())
    assert told.pop("time").endswith("Z")
    assert told == {
        **{"level": "info", "event": "published", "router": "chat", "version": "v1", "accuracy": 0.5, "better": True},
        **{"n": 3, "odd": "inf"},
    }
    event(log, logging.INFO, "left alone", path="\udcff\n")
    assert json.loads(stream.getvalue().splitlines()[1])["path"] == "\udcff\n"
    assert "router" not in json.loads(stream.getvalue().splitlines()[1])


def test_text_is_for_people_and_still_has_fields(logged):
    log, stream, _, _ = logged()
    event(log, logging.INFO, "ingested", lines=3000, path="/a b", accuracy=0.123456789, ok=False)
    moment, rest = stream.getvalue().split(" ", 1)
    assert moment.endswith("Z")
    assert rest == 'INFO ingested lines=3000 path="/a b" accuracy=0.123457 ok=false\n'


def test_the_journal_gets_a_priority_and_no_time(logged):
    log, stream, _, _ = logged(journal=True)
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        event(log, level, "something", n=1)
    assert stream.getvalue() == "<6>something n=1\n<4>something n=1\n<3>something n=1\n<2>something n=1\n"


def test_only_the_stream_that_systemd_named_is_the_journals(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert read_by_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        for other in ({}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": f"{status.st_dev}:1"}, {"JOURNAL_STREAM": "x"}):
            assert not read_by_journal(stream, other)
    assert not read_by_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_what_repeats_is_counted_and_the_count_is_told_without_another_event(logged):
    log, stream, clock, handler = logged(as_json=True)
    for number in range(BURST + 25):
        event(log, logging.WARNING, "left alone", path=f"/{number}")
    event(log, logging.WARNING, "another")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in told] == ["left alone"] * BURST + ["another"]
    clock.now = BURST_S - 1
    handler.tick()
    assert len(stream.getvalue().splitlines()) == BURST + 1
    clock.now = BURST_S
    handler.tick()
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["event"], last["last"], last["count"], last["level"]) == ("left out", "left alone", 25, "warning")
    event(log, logging.WARNING, "left alone", path="/again")
    assert json.loads(stream.getvalue().splitlines()[-1])["path"] == "/again"


def test_the_end_tells_what_was_left_out(logged):
    log, stream, _, handler = logged(as_json=True)
    for _ in range(BURST + 2):
        log.warning("hook %s failed", "x")
    handler.close()
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["last"], last["count"]) == ("hook x failed", 2)


def test_routers_are_counted_apart(logged):
    log, stream, _, _ = logged(as_json=True)
    for name in ("a", "b"):
        with about(name):
            for _ in range(BURST):
                event(log, logging.INFO, "published")
    assert len(stream.getvalue().splitlines()) == 2 * BURST


def test_configuring_again_replaces_what_was_there():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        first, second = (configure("json", io.StringIO(), {}) for _ in range(2))
        assert second in root.handlers
        assert first not in root.handlers
    finally:
        root.handlers, root.level = before, level
