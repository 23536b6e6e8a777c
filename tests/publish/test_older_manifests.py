"""Versions that 0.1.0 published (`older/models-0.1.0`, by its own code) go on being served; newer ones are refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from make_candidate import make_candidate

from streamtrain import __version__
from streamtrain.model.seal import SCHEMA_VERSION, VersionError, read_sealed, seal
from streamtrain.publish.artifact import build
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.registry import Registry
from streamtrain.router.router import NoModelError, Router

FIRST, SECOND = "v1764000000", "v1764000120"


@pytest.fixture
def models(tmp_path):
    shutil.copytree(Path(__file__).parent / "older" / "models-0.1.0", tmp_path / "models", symlinks=True)
    return tmp_path / "models"


def golden(models, version):
    return read_sealed(models / "versions" / version)[0]["golden"]


def make_newer(models, version, writer="streamtrain 9.1.0"):
    """What a later program may write: sealed as ever, and of a format that nobody here knows."""
    file = models / "versions" / version / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["manifest_sha256"]
    file.write_bytes(seal(manifest | {"schema_version": SCHEMA_VERSION + 1, "written_by": writer}))


def run(models, *words):
    config = models.parent / "streamtrain.yaml"
    (models.parent / "logs").mkdir(exist_ok=True)
    config.write_text(f"logs: {{directory: logs}}\nmodels: {{directory: {models}}}\nstate: {{directory: state}}\n")
    command = [sys.executable, "-m", "streamtrain", words[0], "--config", str(config), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_older_version_is_served_as_it_was(models):
    for version in (SECOND, FIRST):
        told = golden(models, version)
        assert read_sealed(models / "versions" / version)[0]["schema_version"] == 1
        with Registry(models) as registry:
            registry.promote(version)
        with Router(models, poll_interval_s=None) as router:
            answers = [router.route(row) for row in told["features"]]
            assert {one.version for one in answers} == {version}
            assert [one.confidence for one in answers] == pytest.approx(told["confidences"], abs=1e-6)


def test_older_versions_are_listed_rolled_back_and_retired(models):
    assert [(one.version, one.damage) for one in Catalog(models).versions()] == [(FIRST, None), (SECOND, None)]
    with Registry(models, keep=2) as registry:
        registry.acquire()
        assert registry.rollback() == FIRST
        assert registry.promote(SECOND) == SECOND
        third = registry.publish(registry.stage(build(make_candidate(7, hidden_dim=4))))
        assert registry.names() == [SECOND, third]
        assert registry.rollback() == SECOND
        assert registry.current() == SECOND


def test_a_manifest_names_its_writer_and_asks_for_no_more_than_it_needs():
    alone, sessions = (json.loads(build(make_candidate(1, sequence_length=n))["manifest.json"]) for n in (1, 4))
    assert alone["schema_version"] == 1  # routers of 0.1.0 serve it
    assert sessions["schema_version"] == 2  # they would answer each request of a session as if it were the first
    assert alone["written_by"] == sessions["written_by"] == f"streamtrain {__version__}"


@pytest.mark.parametrize("writer", ["streamtrain 9.1.0", None, 3, "a\x1b[0m"])
def test_a_newer_manifest_is_refused_by_name(models, writer):
    make_newer(models, SECOND, writer)
    with pytest.raises(VersionError) as refused:
        Catalog(models).load(SECOND)
    told = str(refused.value)
    assert f"schema_version is {SCHEMA_VERSION + 1}, written by" in told
    assert ("written by streamtrain 9.1.0;" in told) == (writer == "streamtrain 9.1.0")
    assert f"this is streamtrain {__version__}, which reads up to {SCHEMA_VERSION}: upgrade what reads it" in told
    assert told.isprintable()


def test_a_router_keeps_what_it_serves_when_a_newer_one_comes(models):
    row = golden(models, FIRST)["features"][0]
    with Registry(models) as registry, Router(models, poll_interval_s=None) as router:
        registry.promote(FIRST)
        router.poll()
        before = router.route(row)
        assert before.version == FIRST
        make_newer(models, SECOND)
        current = models / "current"
        current.unlink()
        current.symlink_to(f"versions/{SECOND}")
        assert not router.poll()
        assert router.route(row) == before
        assert "written by streamtrain 9.1.0" in router.failure
        registry.rollback(FIRST)
        router.poll()
        assert router.failure is None
    make_newer(models, FIRST)
    with Router(models, poll_interval_s=None) as router, pytest.raises(NoModelError, match=r"streamtrain 9\.1\.0"):
        router.route(row)


def test_the_commands_refuse_a_newer_one_by_name(models):
    make_newer(models, SECOND)
    for words in (("promote", SECOND), ("rollback", SECOND)):
        ended = run(models, *words)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "written by streamtrain 9.1.0" in ended.stderr
        assert "upgrade" in ended.stderr
    listed = json.loads(run(models, "versions", "--json").stdout)
    assert "streamtrain 9.1.0" in listed[1]["damage"]
    assert "streamtrain 9.1.0" in json.loads(run(models, "status", "--json").stdout)["current"]["damage"]
    assert run(models, "rollback").returncode == 0
    assert Catalog(models).current() == FIRST
