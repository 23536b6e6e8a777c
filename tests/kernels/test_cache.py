"""The compile cache: private, believed only as sealed, rebuilt on any damage, and done without where there is none."""

import os
import subprocess
import sys

import pytest

from streamtrain.kernels import cache

# Fills a folder as a compiler would, without the seconds of one.
CONTENT = {"kernels_1/a.nbi": b"index" * 40, "kernels_1/a.1.nbc": bytes(range(256)) * 3}


@pytest.fixture
def place(tmp_path):
    found = cache.folder({"NUMBA_CACHE_DIR": str(tmp_path / "numba")})
    assert found is not None
    return found


def fill(place):
    with cache.opened(place):
        for name, content in CONTENT.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)


def survives(place):
    with cache.opened(place):
        return all((place / name).exists() for name in CONTENT)


def test_the_folder_is_private_and_named_after_what_the_code_depends_on(place):
    assert place.stat().st_mode & 0o777 == 0o700
    assert place.name == cache.key()
    place.chmod(0o755)
    assert cache.folder({"NUMBA_CACHE_DIR": str(place.parents[1])}) == place
    assert place.stat().st_mode & 0o777 == 0o700


def test_what_was_sealed_is_believed(place):
    fill(place)
    assert survives(place)


@pytest.mark.parametrize("name", [*CONTENT, "digests.json"])
def test_a_file_truncated_at_every_tenth_byte_is_thrown_away(place, name):
    fill(place)
    whole = (place / name).read_bytes()
    for length in range(0, len(whole), 10):
        fill(place)
        (place / name).write_bytes(whole[:length])
        assert not survives(place), length


def test_a_changed_byte_a_new_file_and_a_missing_one_are_noticed(place):
    name = "kernels_1/a.1.nbc"
    fill(place)
    (place / name).write_bytes(b"\x01" + CONTENT[name][1:])
    assert not survives(place)
    fill(place)
    (place / "kernels_1" / "b.1.nbc").write_bytes(b"left by a crash")
    assert not survives(place)
    fill(place)
    (place / name).unlink()
    assert not survives(place)


def test_an_error_while_compiling_leaves_the_folder_unsealed(place):
    def killed():
        with cache.opened(place):
            (place / "half.nbc").write_bytes(b"half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        killed()
    with cache.opened(place):
        assert not (place / "half.nbc").exists()


def test_old_folders_are_retired(tmp_path):
    root = tmp_path / "numba" / "streamtrain"
    for n in range(9):
        for name in (f"{n:016x}", f"somebody's {n}"):
            (root / name).mkdir(parents=True)
            (root / name / "lock").touch()
    cache.folder({"NUMBA_CACHE_DIR": str(tmp_path / "numba")})
    assert len(list(root.glob("0*"))) == 4
    assert len(list(root.glob("somebody's*"))) == 9


def test_a_link_in_the_folder_s_place_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "numba" / "streamtrain").mkdir(parents=True)
    (tmp_path / "numba" / "streamtrain" / cache.key()).symlink_to(tmp_path / "elsewhere")
    assert cache.folder({"NUMBA_CACHE_DIR": str(tmp_path / "numba")}) is None


def test_no_place_is_no_obstacle(tmp_path):
    assert cache.folder({}) is None
    (tmp_path / "file").write_text("in the way")
    assert cache.folder({"NUMBA_CACHE_DIR": str(tmp_path / "file")}) is None
    assert cache.folder({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "streamtrain" / cache.key()


CODE = """
import numpy as np
from streamtrain.kernels import epoch
kernel = epoch.scoring_kernel(2, 3, 1)
print(len(kernel.nopython_signatures), sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def compiled(environ):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_real_kernels_come_from_the_cache_and_are_compiled_again_after_damage(tmp_path):
    where = {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    assert compiled(where) == [1, 0, 1]
    assert compiled(where) == [1, 1, 0]
    (data,) = (tmp_path / "numba").rglob("*.nbc")
    for length in (0, 1, data.stat().st_size // 2):
        data.write_bytes(data.read_bytes()[:length])
        assert compiled(where) == [1, 0, 1]
        assert compiled(where) == [1, 1, 0]


@pytest.mark.slow
def test_kernels_are_compiled_without_a_cache_where_no_folder_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    signatures, hits, _ = compiled({"NUMBA_CACHE_DIR": str(tmp_path / "file")})
    assert (signatures, hits) == (1, 0)
