"""The reading side of a models directory: which versions there are, which is current, and whether they verify."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrain.model.formats import F32_FILE, METRICS_FILE, read_f32
from streamtrain.model.seal import Manifest, VersionError, read_sealed
from streamtrain.model.signature import PublicKey
from streamtrain.model.tensors import TensorFileError
from streamtrain.publish.artifact import Champion, load_candidate
from streamtrain.publish.errors import NoVersionError, PublishError, saying
from streamtrain.publish.pins import Pins
from streamtrain.publish.receipts import Receipts

_VERSION = re.compile(r"v[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version at a glance, from its manifest.

    Attributes
    ----------
    version : str
    path : Path
    timestamp : str or None
        When it was published, RFC 3339.
    test_accuracy : float or None
        On the holdout, as judged by the gate.
    model_size_bytes : int or None
    parent, previous : str or None
        Version it was fine-tuned from; version that was current before it.
    origin : str or None
        "scratch", "fine-tuned", "imported" …
    current, pinned : bool
    damage : str or None
        Why its manifest or its signature does not verify; None if it does. The other files are checked by
        `Catalog.verify`.
    """

    version: str
    path: Path
    timestamp: str | None
    test_accuracy: float | None
    model_size_bytes: int | None
    parent: str | None
    previous: str | None
    origin: str | None
    current: bool
    pinned: bool
    damage: str | None


class Catalog:
    """Reads a models directory; never changes it, and needs no lock.

    Parameters
    ----------
    models_dir : path
        May not exist yet: then there are no versions.
    public_key : PublicKey, optional
        If given, a version verifies only if it is signed by it.

    Attributes
    ----------
    models_dir, versions_dir : Path
    receipts : Receipts
    public_key : PublicKey or None
    """

    def __init__(self, models_dir: str | os.PathLike[str], *, public_key: PublicKey | None = None) -> None:
        self.models_dir = Path(models_dir)
        self.public_key = public_key
        self.versions_dir = self.models_dir / "versions"
        self.receipts = Receipts(self.models_dir / "receipts.jsonl")
        self._link = self.models_dir / "current"
        self._pins = Pins(self.models_dir / "pins.json")

    def current(self) -> str | None:
        """Name of the version that ``current`` points to.

        Returns
        -------
        str or None
            None if nothing was published yet.

        Raises
        ------
        PublishError
            If ``current`` is there but is not a link to a version.
        """
        try:
            target = self._link.readlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PublishError(
                f"read current: {self._link}: {error.strerror}; expected a symbolic link to versions/<version>: "
                "move what is there away and promote a version"
            ) from error
        return target.name

    def names(self) -> list[str]:
        """Names of all versions, the oldest first.

        Returns
        -------
        list of str

        Raises
        ------
        PublishError
            If the directory is there but cannot be read.
        """
        with saying("list versions", self.versions_dir):
            try:
                found = [entry.name for entry in os.scandir(self.versions_dir) if is_version(entry.name)]
            except FileNotFoundError:
                return []
        return sorted(found, key=number)

    def versions(self) -> list[VersionInfo]:
        """All versions, the oldest first, also damaged ones.

        Returns
        -------
        list of VersionInfo

        Raises
        ------
        PublishError
            If the models directory cannot be read.
        """
        current, pins = self.current(), self.pins()
        return [self._info(name, current, pins) for name in self.names()]

    def path(self, version: str) -> Path:
        """Directory of a version.

        Parameters
        ----------
        version : str

        Returns
        -------
        Path

        Raises
        ------
        PublishError
            If there is no such version.
        """
        directory = self.versions_dir / version
        if not is_version(version) or not directory.is_dir():
            there = ", ".join(self.names()) or "none"
            raise NoVersionError(f"{self.models_dir} has no version {version!r}; there are: {there}")
        return directory

    def load(self, version: str | None = None) -> Champion:
        """Read a version back and verify all of it.

        Parameters
        ----------
        version : str, optional
            The current one if None.

        Returns
        -------
        Champion

        Raises
        ------
        PublishError
            If there is no such version, or none is current.
        VersionError
            If it does not verify.
        OSError
            If it could not be read just now.
        """
        name = version or self.current()
        if name is None:
            raise NoVersionError(f"{self.models_dir} has no current version; nothing was published yet")
        return read_whole(self.path(name), name, self.public_key)

    def verify(self, version: str | None = None) -> None:
        """Check every byte and every tensor of a version.

        Parameters
        ----------
        version : str, optional
            The current one if None.

        Raises
        ------
        PublishError, VersionError, OSError
            As in `load`.
        """
        self.load(version)

    def pins(self) -> frozenset[str]:
        """Versions that retention leaves alone.

        Returns
        -------
        frozenset of str

        Raises
        ------
        PublishError
            If they cannot be read.
        """
        return self._pins.read()

    def version_before(self, version: str) -> str | None:
        """Find what a version took over from; where that is gone, the newest one before it that is there.

        Parameters
        ----------
        version : str
            May be damaged or gone itself.

        Returns
        -------
        str or None
            None if there is nothing before it.

        Raises
        ------
        PublishError, OSError
            If the directory or a manifest cannot be read.
        """
        names = self.names()
        if version in names:
            try:
                previous = self.manifest(version).get("previous")
            except VersionError:
                # Going back from a damaged version is what a rollback is for.
                previous = None
            if previous in names:
                return str(previous)
        earlier = [name for name in names if number(name) < number(version)]
        return earlier[-1] if earlier else None

    def manifest(self, version: str) -> Manifest:
        """Manifest of a version, its own seal checked, the other files not.

        Parameters
        ----------
        version : str

        Returns
        -------
        dict

        Raises
        ------
        PublishError
            If there is no such version.
        VersionError
            If the manifest is missing or changed.
        OSError
            If it could not be read just now.
        """
        return read_sealed(self.path(version), only=())[0]

    def report(self, version: str) -> tuple[Manifest, dict[str, Any]]:
        """Manifest and metrics of a version, both verified.

        Parameters
        ----------
        version : str

        Returns
        -------
        manifest, metrics : dict
            ``metrics.json`` has "epochs" and "holdout".

        Raises
        ------
        PublishError
            If there is no such version.
        VersionError
            If one of them is missing or changed, or the signature is not good where a key is set.
        OSError
            If it could not be read just now.
        """
        directory = self.path(version)
        manifest, files = read_sealed(directory, only=(METRICS_FILE,), public_key=self.public_key)
        try:
            metrics = json.loads(files[METRICS_FILE])
        except (ValueError, RecursionError) as error:
            raise VersionError(directory, f"{METRICS_FILE} is not JSON: {error}") from error
        if not isinstance(metrics, dict):
            raise VersionError(directory, f"{METRICS_FILE} is not a JSON object")
        return manifest, metrics

    def _info(self, name: str, current: str | None, pins: frozenset[str]) -> VersionInfo:
        manifest: Manifest = {}
        damage: str | None = None
        try:
            manifest = read_sealed(self.path(name), only=(), public_key=self.public_key)[0]
        except VersionError as error:
            damage = error.reason
        except OSError as error:
            damage = f"it cannot be read: {error}"
        return VersionInfo(
            version=name,
            path=self.versions_dir / name,
            timestamp=manifest.get("timestamp"),
            test_accuracy=manifest.get("test_accuracy"),
            model_size_bytes=manifest.get("model_size_bytes"),
            parent=manifest.get("parent"),
            previous=manifest.get("previous"),
            origin=manifest.get("origin"),
            current=name == current,
            pinned=name in pins,
            damage=damage,
        )


def read_whole(directory: Path, version: str, public_key: PublicKey | None = None) -> Champion:
    """Read a version back from any directory, and verify all of it.

    Parameters
    ----------
    directory : Path
    version : str
        What its manifest must call it.
    public_key : PublicKey, optional
        As in `Catalog`.

    Returns
    -------
    Champion

    Raises
    ------
    VersionError, OSError
        As in `Catalog.load`.
    """
    champion = load_candidate(directory, public_key)
    if champion.version != version:
        raise VersionError(directory, f"its manifest calls it {champion.version!r}")
    _, files = read_sealed(directory, only=(F32_FILE,))
    try:
        config, _ = read_f32(files[F32_FILE])
    except TensorFileError as error:
        raise VersionError(directory, f"{F32_FILE}: {error}") from error
    if config != champion.config:
        raise VersionError(directory, f"{F32_FILE} is of another model ({config}) than the INT8 file")
    return champion


def is_version(name: str) -> bool:
    """Whether a name is that of a version.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool
    """
    return _VERSION.fullmatch(name) is not None


def number(version: str) -> int:
    """Read the number in a version's name, by which versions are ordered.

    Parameters
    ----------
    version : str
        E.g. "v1763838000".

    Returns
    -------
    int
    """
    return int(version[1:])
