"""No changed byte of a published version is ever served, and none makes the reader do anything but refuse."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from make_candidate import make_candidate

from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load_version
from streamtrain.router.router import Router

ROW = [0.1, 0.2, 0.3, 0.4, 0.5]
RANDOM_FLIPS = 20_000


def published(models: Path, **shape: int) -> Path:
    with Registry(models) as registry:
        return models / "versions" / registry.publish(registry.stage(build(make_candidate(1, **shape))))


def refuse_each(directory: Path, places: Mapping[str, Iterable[int]]) -> int:
    """Flip a bit at each place of each file, see that the version is refused for that file, and flip it back."""
    n_flips = 0
    for name, offsets in places.items():
        data = (directory / name).read_bytes()
        file = os.open(directory / name, os.O_WRONLY)
        for offset in offsets:
            os.pwrite(file, bytes([data[offset] ^ 1 << random.randrange(8)]), offset)
            with pytest.raises(VersionError, match=re.escape(name)):
                load_version(directory)
            os.pwrite(file, data[offset : offset + 1], offset)
            n_flips += 1
        os.close(file)
    load_version(directory)
    return n_flips


@pytest.mark.parametrize("steps", [1, 8])
def test_each_byte_of_each_file(tmp_path, steps):
    directory = published(tmp_path, sequence_length=steps)
    sizes = {file.name: file.stat().st_size for file in directory.iterdir()}
    assert len(sizes) == 6
    assert refuse_each(directory, {name: range(size) for name, size in sizes.items()}) == sum(sizes.values())


@pytest.mark.slow
def test_random_bytes_of_a_large_version(tmp_path):
    directory = published(tmp_path, input_dim=384, hidden_dim=16)
    sizes = {file.name: file.stat().st_size for file in directory.iterdir()}
    whole = sum(sizes.values())
    assert whole > 5 * RANDOM_FLIPS
    chosen = random.Random(0).choices(list(sizes), weights=list(sizes.values()), k=RANDOM_FLIPS)
    places = {name: random.choices(range(size), k=chosen.count(name)) for name, size in sizes.items()}
    assert refuse_each(directory, places) == RANDOM_FLIPS


@pytest.mark.parametrize("how", ["longer", "shorter", "empty", "gone", "a directory", "a link", "a fifo"])
def test_files_that_are_no_longer_what_they_were(tmp_path, how):
    directory = published(tmp_path)
    for file in sorted(directory.iterdir()):
        data = file.read_bytes()
        file.unlink()
        if how in ("longer", "shorter", "empty"):
            file.write_bytes({"longer": data + b"\n", "shorter": data[:-1], "empty": b""}[how])
        elif how == "a directory":
            file.mkdir()
        elif how == "a link":
            (tmp_path / "copy").write_bytes(data)
            file.symlink_to(tmp_path / "copy")
        elif how == "a fifo":
            os.mkfifo(file)
        with pytest.raises(VersionError, match=re.escape(file.name)):
            load_version(directory)
        if how == "a directory":
            file.rmdir()
        elif how != "gone":
            file.unlink()
        file.write_bytes(data)
    load_version(directory)


def test_a_router_never_serves_a_changed_one(tmp_path):
    """The same through `current`, a sample of the bytes: each damaged version is refused once, the good one serves."""
    good = published(tmp_path)
    chance = random.Random(0)
    files = {file.name: file.read_bytes() for file in good.iterdir()}
    with Router(tmp_path, poll_interval_s=None) as router:
        score = router.score(ROW)
        for number in range(300):
            damaged = tmp_path / "versions" / f"v{number}"
            damaged.mkdir()
            for name, data in files.items():
                (damaged / name).write_bytes(data)
            name = chance.choice(list(files))
            spoilt = bytearray(files[name])
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
            (damaged / name).write_bytes(spoilt)
            (tmp_path / "next").symlink_to(f"versions/v{number}")
            (tmp_path / "next").rename(tmp_path / "current")
            assert router.poll() is False
            assert name in router.failure
            assert router.route(ROW)[0] == score
            assert router.version == good.name
