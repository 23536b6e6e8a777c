"""Which versions may go, and how one goes without a reader ever seeing half of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from streamtrain.publish.durable import move_directory


def choose(names: Sequence[str], keep: int, protected: Collection[str]) -> list[str]:
    """Versions to remove so that `keep` are left.

    Parameters
    ----------
    names : sequence of str
        All versions, the oldest first.
    keep : int
    protected : collection of str
        Never chosen. The newest is not either, because the next version's name is counted on from it.

    Returns
    -------
    list of str
        The oldest first; fewer than hoped where too many are protected.
    """
    removable = [name for name in names[:-1] if name not in protected]
    return removable[: max(0, len(names) - keep)]


def remove(version: Path, trash: Path) -> None:
    """Remove a version: out of sight by one rename, and only then file by file.

    Parameters
    ----------
    version : Path
    trash : Path
        Name to take it out of sight to; must not exist.

    Raises
    ------
    OSError
        If it could not be renamed. What could not be deleted after that is left to `clean`.
    """
    move_directory(version, trash)
    shutil.rmtree(trash, ignore_errors=True)


def clean(staging: Path, models_dir: Path, keep: Callable[[str], bool] = lambda name: False) -> None:
    """Remove what a crash left behind. Only for the one who holds both locks.

    Parameters
    ----------
    staging : Path
        Everything in it is a candidate without a verdict or a version on its way out.
    models_dir : Path
        Half-made links and files in it are named ``.new-…``.
    keep : callable
        Whether what has this name in `staging` stays.

    Raises
    ------
    OSError
        If a directory cannot be listed, or something cannot be removed.
    """
    for entry in staging.iterdir():
        if keep(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for entry in models_dir.glob(".new-*"):
        entry.unlink()
