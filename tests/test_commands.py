"""The commands as a person and as a script meet them; docs/commands.md says the same as `--help`."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from simulated_logs import lines, rows, write_config

from streamtrain import __version__
from streamtrain.cli import cli

DOCUMENT = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
PROGRAM = [sys.executable, "-m", "streamtrain"]
PRINTS_NO_DOCUMENT = {"run", "score", "completion", "demo"}


def commands():
    found = {}
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
        else:
            found[name] = command
    return found


def run(*words, **more):
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, **more)


@pytest.fixture
def config(tmp_path):
    file = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(50)) + b"no JSON\n")
    return file


def test_the_document_has_every_command_and_option():
    sections = dict(re.findall(r"^### (.+)\n\n(.+(?:\n.+)*)", DOCUMENT, re.MULTILINE))
    assert sections.keys() == commands().keys()
    for name, command in commands().items():
        listed = set(re.findall(r"`(--[a-z-]+)`", sections[name].partition(". ")[0]))
        options = {
            text
            for one in command.params
            if isinstance(one, click.Option)
            for text in (*one.opts, *one.secondary_opts)
            if text.startswith("--")
        }
        assert listed == options, name


def test_every_command_that_prints_takes_json():
    for name, command in commands().items():
        assert any("--json" in one.opts for one in command.params) != (name in PRINTS_NO_DOCUMENT), name


def test_json_is_one_document_and_nothing_else(config):
    shapes = {"ingest": {"ingested", "window"}, "status": {"lag", "migrated"}, "check": {"file", "valid", "presets"}}
    for words, keys in shapes.items():
        ended = run(words, "--config", config, "--json")
        assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
        assert keys <= json.loads(ended.stdout).keys()
    (one,) = json.loads(run("quarantine", "list", "--config", config, "--json").stdout)
    assert one["offset"] > 0
    assert json.loads(run("quarantine", "retry", "--config", config, "--json").stdout)["remaining"] == 1


def test_check_tells_every_mistake_as_json(config):
    config.write_text(config.read_text() + "gate: {min_acuracy: 1, min_auc: 7}\n")
    ended = run("check", "--config", config, "--json")
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["valid"]) == (2, False)
    assert {one["key"] for one in told["mistakes"]} == {"gate.min_acuracy", "gate.min_auc"}
    assert "min_accuracy" in str(told)


def test_mistyped_words_are_answered_with_what_was_meant():
    for words, meant in (
        (["statsu"], "status"),
        (["status", "--confg", "x"], "--config"),
        (["--versoin"], "--version"),
    ):
        ended = run(*words)
        assert ended.returncode == 2
        assert meant in ended.stderr.rpartition("No such")[2]
    assert __version__ in run("--version").stdout


def test_a_pipe_that_nobody_reads_is_no_traceback(config):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*PROGRAM, "check", "--config", str(config)], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr


def test_colours_and_bars_only_where_a_person_looks_on(config):
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    ended = run("ingest", "--config", config, env=plain)
    assert "\x1b" not in ended.stdout + ended.stderr
    master, slave = pty.openpty()
    words = [*PROGRAM, "ingest", "--config", str(config), "--json"]
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=slave, env=plain | {"TERM": "xterm"}, check=False)
    os.close(slave)
    assert json.loads(ended.stdout)
    assert b"\x1b" in os.read(master, 65536)
    os.close(master)


def test_watching_a_pipe_tells_changes_and_ends_by_interrupt(config):
    words = [*PROGRAM, "status", "--config", str(config), "--watch", "--interval", "0.2", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert json.loads(watching.stdout.readline())["ingested"] is None
        assert run("ingest", "--config", config).returncode == 0
        while (told := json.loads(watching.stdout.readline()))["window"]["samples"] != 50:
            assert "window" in told
        watching.send_signal(signal.SIGINT)
        assert "Traceback" not in watching.stderr.read()
    assert watching.returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    ended = run("completion", shell)
    assert ended.returncode == 0
    assert "_STREAMTRAIN_COMPLETE" in ended.stdout


def test_versions_are_completed(config, tmp_path):
    for name in ("v1", "v22"):
        (tmp_path / "models" / "versions" / name).mkdir(parents=True)
    asked = {
        "_STREAMTRAIN_COMPLETE": "bash_complete",
        "COMP_WORDS": f"streamtrain pin --config {config} v",
        "COMP_CWORD": "4",
    }
    ended = run(env=os.environ | asked)
    assert ended.stdout.split() == ["plain,v22", "plain,v1"]
