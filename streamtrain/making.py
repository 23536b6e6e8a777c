"""The last step of a training, and what is written down of it, so that the winner can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from streamtrain import __version__
from streamtrain.config import Config, to_dict
from streamtrain.intake import Cut, Intake
from streamtrain.judge.shift import Reference
from streamtrain.kernels.cache import host, key
from streamtrain.publish.artifact import Champion
from streamtrain.train.calibrate import calibrate
from streamtrain.train.challengers import Challenger
from streamtrain.types import F32, U64, Arrays, Candidate, Scaling

FINE_TUNED = "fine-tuned"
"""How the names of recipes begin that go on from the current version."""
# What is trained: everything between the samples and the weights.
_DECIDING = (
    "dataset",
    "kernels",
    "model",
    "train",
    "intake.py",
    "lessons.py",
    "aftermath.py",
    "choice.py",
    "making.py",
    "types.py",
)


def make_candidate(
    intake: Intake,
    best: Challenger,
    validation: Arrays,
    scaling: Scaling,
    champion: Champion | None,
    cut: Cut,
    lineage: Mapping[str, object] | None,
) -> Candidate:
    """Calibrate and quantize the winner.

    Parameters
    ----------
    intake : Intake
        Of the configuration.
    best : Challenger
        With a fit.
    validation : Arrays
        What it is calibrated on.
    scaling : Scaling
    champion : Champion or None
        Where fine-tuning went on from.
    cut : Cut
    lineage : mapping, optional
        From `lineage_of`.

    Returns
    -------
    Candidate
    """
    if best.fit is None:
        raise ValueError("candidate: a challenger that diverged has no weights")
    config, shape = intake.config, intake.shape()
    calibrated = calibrate(best.fit.params, shape, validation, config.training.calibrate)
    tuned = champion is not None and best.recipe.name.startswith(FINE_TUNED)
    return Candidate(
        config=shape,
        params=calibrated.params,
        quantized=calibrated.quantized,
        scaling=scaling,
        features=config.schema.feature_names,
        input_scale=config.router.input_scale,
        epochs=best.fit.epochs,
        origin=best.recipe.name,
        parent=champion.version if champion is not None and tuned else None,
        seed=best.recipe.seed,
        inputs=cut.inputs,
        settings=settings(config) | {"trained_with": asdict(best.recipe.training)},
        sequence_length=config.model.sequence_length,
        calibration=asdict(calibrated.calibration),
        lineage=None if lineage is None else dict(lineage),
        window=None if lineage is None else written(cut.order, cut.factors),
        reference=Reference.of(cut.splits.train.features).to_json(),
    )


def settings(config: Config) -> dict[str, object]:
    """Leave out of the manifest what trains nothing: addresses of webhooks may hold tokens."""
    return {name: section for name, section in to_dict(config).items() if name not in ("publish", "log")}


def lineage_of(
    config: Config, cut: Cut, champion: Champion | None, challengers: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Write down what determined a training, beside its settings, seed and input ranges.

    Parameters
    ----------
    config : Config
    cut : Cut
    champion : Champion or None
        Where fine-tuning could go on from.
    challengers : sequence of mapping
        Everything that competed, the winner first.

    Returns
    -------
    dict
        JSON values.
    """
    teacher = Path(config.training.teacher)
    return {
        "window": {
            "samples": len(cut.order),
            "reservoir": len(cut.factors),
            "sha256": hashlib.sha256(written(cut.order, cut.factors)).hexdigest(),
        },
        "n_ingested": cut.end.n,
        "time": cut.time_s,
        "sources": [
            {
                "source": f"{source.key:016x}",
                "path": source.path,
                "offset": source.offset,
                "checksum": source.checksum,
                "head_bytes": source.head_bytes,
                "head_hash": source.head_hash.hex(),
                "tail_bytes": source.tail_bytes,
                "tail_hash": source.tail_hash.hex(),
            }
            for source in cut.sources
        ],
        "champion": None if champion is None else champion.version,
        "challengers": list(challengers),
        "environment": environment(),
        # A model file that is distilled from may be replaced.
        "teacher_sha256": hashlib.sha256(teacher.read_bytes()).hexdigest() if teacher.is_file() else None,
    }


def written(order: U64, factors: F32) -> bytes:
    """Write fingerprints, and the factors of the reservoir, as they stand in the file of a version."""
    return order.astype("<u8").tobytes() + factors.astype("<f4").tobytes()


def environment() -> dict[str, str]:
    """Name everything but data and settings that the bits of a training depend on.

    ``code`` is a hash of the sources between samples and weights; ``kernels`` one of the kernels' sources, the
    compiler, Python and the processor with its features: with other vector lanes or without FMA sums round differently.
    """
    versions = {"streamtrain": __version__, "numpy": np.__version__}
    return versions | host() | {"code": _code(), "kernels": key()}


def differences(recorded: Mapping[str, object]) -> list[str]:
    """Say in what this environment differs from a recorded one."""
    here = environment()
    return [f"{name} was {recorded.get(name)}, and is {now}" for name, now in here.items() if recorded.get(name) != now]


@cache
def _code() -> str:
    package = Path(__file__).parent
    files = sorted(
        file
        for name in _DECIDING
        for file in ([package / name] if name.endswith(".py") else package.joinpath(name).glob("*.py"))
    )
    texts = {str(file.relative_to(package)): file.read_text() for file in files}
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
