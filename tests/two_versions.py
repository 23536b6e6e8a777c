"""A log whose outcomes two given versions foresee as well as is wanted: what rolling back is tested with."""

from __future__ import annotations

import numpy as np
from make_candidate import make_candidate

from streamtrain.config import parse
from streamtrain.intake import Intake
from streamtrain.prequential import Prequential
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.reading import Batch
from streamtrain.router.load import load
from streamtrain.types import Decision, Samples

N_FEATURES = 5
START = 1_700_000_000.0


def samples(features, labels, first_key, groups=None, timestamps=None):
    n = len(labels)
    keys = np.arange(first_key, first_key + n, dtype=np.uint64)
    ones = np.ones(n, np.float32)
    columns = {
        "features": np.asarray(features, np.float32),
        "labels": np.asarray(labels, np.float32),
        "timestamps": START + keys.astype(np.float64) if timestamps is None else timestamps,
        "keys": keys,
        "groups": keys if groups is None else groups,
        "weights": ones,
        "teachers": ones * np.nan,
        "propensities": ones * np.nan,
    }
    missing = {name: np.zeros(n, np.uint64) for name in Samples.__dataclass_fields__ if name not in columns}
    return Samples(**columns, **missing)


def configured(folder, text="", session="null"):
    names = ", ".join(f"feature_{i}" for i in range(N_FEATURES))
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    places = "".join(f"{one}: {{directory: {folder / one}}}\n" for one in ("logs", "state", "models"))
    return parse(f"{places}schema: {{features: [{names}], id: null, session: {session}}}\n{text}", folder)


class World:
    """A state database, a models directory, and outcomes to order."""

    def __init__(self, folder, seed=0, text="", share_different=0.15, session="null"):
        self.config = configured(folder, text, session)
        self.rng = np.random.default_rng(seed)
        self.intake = Intake(self.config, lambda: START)
        self.time = START
        self.registry = Registry(self.config.models.directory, clock=lambda: self.time)
        self.prequential = Prequential(self.intake, self.registry)
        self.share_different = share_different
        self.n = 0

    def close(self):
        self.intake.close()
        self.registry.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def publish(self, seed):
        self.time += 100
        staged = self.registry.stage(build(make_candidate(seed)))
        with self.prequential.settled():
            protect = self.prequential.protected()
            return self.registry.publish(staged, Decision("published", None, "so"), protect=protect)

    def model(self, version):
        return load(self.registry.path(version))

    def outcomes(self, n, better, worse, gap, groups=None):
        """Samples on which one version decides right more often than the other, by `gap`.

        With none they are equals in every way: where they differ one is as sure as the other, and the outcome is as
        likely as both together say, which makes their Brier scores equal sample by sample.
        """
        features = self.rng.random((60 * n, N_FEATURES), np.float32)
        first, second = (self.model(name).score_batch(features) for name in (better, worse))
        differ = (first >= 0.5) != (second >= 0.5)
        different, same = np.flatnonzero(differ & (np.abs(first + second - 1) < 0.03)), np.flatnonzero(~differ)
        taken = np.where(self.rng.random(n) < self.share_different, np.resize(different, n), np.resize(same, n))
        chance = (first[taken] + second[taken]) / 2
        shift = gap / self.share_different / 2
        chance = np.where(differ[taken], chance + np.where(first[taken] >= 0.5, shift, -shift), chance)
        made = samples(features[taken], self.rng.random(n) < chance, self.n, groups)
        self.n += n
        return made

    def read(self, made):
        self.intake.store.commit(Batch(made))

    def fact(self):
        return self.intake.store.get("prequential")

    def receipts(self, event):
        return [one for one in self.registry.receipts.read() if one["event"] == event]
