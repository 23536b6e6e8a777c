"""What a candidate is asked beside the labels of the holdout, made ready before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamtrain.answers import answers, to_powerful
from streamtrain.config import Config
from streamtrain.dataset.store import Store
from streamtrain.ingest.golden import GoldenCases, GoldenError, read_golden
from streamtrain.judge.evidence import Evidence
from streamtrain.judge.golden import GoldenAnswers
from streamtrain.judge.reuse import HoldoutUses
from streamtrain.router.scorer import Model
from streamtrain.types import U64, Decision, Rule, Samples

HOLDOUT_USES = "holdout_uses"
"""The fact under which the state database keeps how often each sample of the holdout was used."""


@dataclass(frozen=True, slots=True)
class Exam:
    """The golden cases, and how often today's holdout was used.

    Attributes
    ----------
    golden : GoldenCases or None
    whole : uint64, (M,)
        Keys of the holdout samples that count.
    keys : uint64, (N,)
        Of those among them that are used: what came after a change of the world, if there was one.
    uses : HoldoutUses
        Before this cycle.
    fact : str
        Under which the state database keeps them.
    """

    golden: GoldenCases | None
    whole: U64
    keys: U64
    uses: HoldoutUses
    fact: str = HOLDOUT_USES

    @classmethod
    def prepare(cls, config: Config, store: Store, holdout: Samples, fact: str = HOLDOUT_USES) -> Exam:
        """Read what is needed.

        Raises
        ------
        GoldenError
            If the golden file can't be used. Nothing may be published then: see `unread`.
        """
        file = config.gate.golden
        golden = None if file is None else read_golden(file, config.schema)
        whole = _counted(holdout)
        return cls(golden, whole, whole, HoldoutUses.from_json(store.get(fact)), fact)

    def of(self, holdout: Samples) -> Exam:
        """Return the same for a part of the holdout."""
        return replace(self, keys=_counted(holdout))

    def ask(self, evidence: Evidence, model: Model, current: Model | None, threshold: float | None) -> Evidence:
        """Put the answers of a candidate, as loaded for serving, and of the current version into the evidence.

        `threshold` is what the candidate's manifest will advise to decide by, if anything.
        """
        golden = self.golden
        asked = replace(
            evidence,
            powerful=to_powerful(evidence.probabilities, threshold, None if threshold is None else 1.0),
            uses=self.uses.of(self.keys),
            golden=None
            if golden is None
            else GoldenAnswers(golden.names, golden.samples.labels, answers(model, golden.samples)),
        )
        if current is None or evidence.current is None:
            return asked
        return replace(
            asked, current_powerful=to_powerful(evidence.current, current.threshold, current.max_uncertainty)
        )

    def remember(self, store: Store) -> None:
        """Count this cycle as a use of the holdout; called once its verdict stands, just before the cycle is over.

        Of a cycle that was killed before, the next one asks the same of the same samples: that is one use.
        """
        store.set(self.fact, self.uses.after(self.keys, self.whole).to_json())


def unread(error: GoldenError) -> Decision:
    """Refuse to train, since no candidate could be asked the golden cases."""
    text = f"gate.golden: {error}; nothing is published until it can be read"
    return Decision("rejected", None, text, rules=(Rule("golden", False, None, 0, text),))


def _counted(holdout: Samples) -> U64:
    return holdout.keys[holdout.weights > 0]
