"""The service under a real systemd: installed, fed, hurt, stopped, upgraded and taken away, in one boot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_logs import lines, rows

REPOSITORY = Path(__file__).resolve().parents[2]
SANDBOX = REPOSITORY.parent / "shared" / "tools" / "systemd-sandbox"
SYSTEM_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("boot.sh")
VISITOR = Path(__file__).with_name("page.py")
STEPS = re.findall(r"^step=([a-z-]+)$", SCRIPT.read_text(), re.MULTILINE)[1:]
PATIENCE_S = 900  # some two minutes where nothing else runs
SOURCES = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "streamtrain", "systemd", "config", "docs")

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]


def copy_tree(target, version=None):
    """What `make install` needs, where the booted system can see it; optionally as another version."""
    target.mkdir()
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    if version is not None:
        for name, pattern in (("pyproject.toml", "^version = .*$"), ("streamtrain/__init__.py", "^__version__ = .*$")):
            file = target / name
            new, n = re.subn(pattern, lambda m: f'{m[0].split(" = ")[0]} = "{version}"', file.read_text(), flags=re.M)
            assert n == 1, name
            file.write_text(new)


def make(tree, *words):
    done = subprocess.run(["make", "-C", tree, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory, unavailable):
    """Trees `older` and `newer`, each with the wheels that it is installed from."""
    if not Path(SYSTEM_PYTHON).exists():
        unavailable(f"no {SYSTEM_PYTHON} for the service to run")
    work = tmp_path_factory.mktemp("service")
    copy_tree(work / "newer")
    copy_tree(work / "older", version="0.0.9")
    make(work / "newer", "wheels", f"WHEELS={work}/newer-wheels")
    shutil.copytree(work / "newer-wheels", work / "older-wheels", ignore=shutil.ignore_patterns("streamtrain-*"))
    pip = work / "newer" / "build" / "pip" / "bin" / "python"
    subprocess.run(
        [pip, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", work / "older-wheels", work / "older"],
        check=True,
        capture_output=True,
    )
    return work


@pytest.fixture(scope="module")
def boot(wheels, unavailable):
    """What the boot printed, and the steps that it got through."""
    if not SANDBOX.exists():
        unavailable("no systemd-sandbox at ../shared/tools")
    work = wheels
    (work / "logs").mkdir()
    for number in range(40):
        text = lines(rows(500, seed=number, first_id=500 * number))
        (work / "logs" / f"log-{number:03d}.jsonl").write_bytes(text)
    # A writer that is nobody in particular reads the logs from there.
    for folder in (work, *work.parents[:-1]):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    shutil.copy2(VISITOR, work)
    script = work / "boot.sh"
    script.write_text(f"WORK={work}\n{SCRIPT.read_text()}")
    # A network of its own, so that the page's port is free; systemd brings its loopback up.
    done = subprocess.run(
        ["unshare", "--net", SANDBOX, script, str(PATIENCE_S), work],
        cwd="/",
        env=os.environ
        | {"PATH": f"{SCRIPT.parent}/pivot:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    steps = work / "steps"
    return done.stdout + done.stderr, steps.read_text().split() if steps.exists() else []


@pytest.mark.parametrize("step", STEPS)
def test_step(boot, step):
    said, done = boot
    assert step in done, said


def test_the_page_turned_nobody_away(boot):
    """From the first start to the last step, but where it was stopped on purpose: calls wait for a restart."""
    said, _ = boot
    told = re.search("^page: .*$", said, re.MULTILINE)
    assert told, said
    line = told[0]
    n_answers, n_processes, n_refused = map(int, re.findall(r"\d+", line)[:3])
    assert n_answers >= n_processes >= 10, line
    assert n_refused == 0, line
    sys.stdout.write("\n".join([line, *re.findall("^==.*$", said, re.MULTILINE)]) + "\n")


def staged(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_staged_installation_touches_nothing_else(wheels, tmp_path):
    """With DESTDIR: whole, free of the staging path, and a changed configuration stays."""
    target = tmp_path / "stage"
    words = (f"DESTDIR={target}", f"WHEELS={wheels}/newer-wheels")
    outside = [Path(name) for name in ("/opt", "/etc", "/usr/local/lib", "/usr/local/bin", "/var/lib", "/var/log")]
    before = [sorted(entry.name for entry in folder.iterdir()) for folder in outside]
    make(wheels / "newer", "install", *words, "SYSTEMD_VERSION=254")
    assert [sorted(entry.name for entry in folder.iterdir()) for folder in outside] == before
    assert staged(target / "usr") == [
        "local/bin/streamtrain",
        "local/lib/systemd/system/streamtrain.service",
        "local/lib/systemd/system/streamtrain.service.d/backoff.conf",
        "local/lib/systemd/system/streamtrain.socket",
        "local/lib/systemd/system/streamtrain@.service",
        "local/lib/systemd/system/streamtrain@.service.d/backoff.conf",
        "local/lib/systemd/system/streamtrain@.socket",
        "local/lib/sysusers.d/streamtrain.conf",
        "local/lib/tmpfiles.d/streamtrain.conf",
    ]
    assert staged(target / "etc") == ["streamtrain/streamtrain.yaml"]
    assert {path.stat().st_mode & 0o777 for path in (target / "etc").rglob("*.yaml")} == {0o644}
    assert {"operating.md", "service.yaml", "streamtrain.yaml"} <= set(staged(target / "opt" / "streamtrain" / "doc"))
    program = (target / "opt/streamtrain/venv/bin/streamtrain").read_text()
    assert program.startswith("#!/opt/streamtrain/release-1/bin/python")
    found = subprocess.run(["grep", "-rlF", str(target), target], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    config = target / "etc/streamtrain/streamtrain.yaml"
    config.write_text("logs: {directory: /srv/logs}\n")
    make(wheels / "newer", "install", *words, "SYSTEMD_VERSION=252")
    assert config.read_text() == "logs: {directory: /srv/logs}\n"
    assert not [name for name in staged(target / "usr") if "backoff" in name]  # which an older one complains of
    make(wheels / "newer", "uninstall", *words)
    assert staged(target) == ["etc/streamtrain/streamtrain.yaml"]
