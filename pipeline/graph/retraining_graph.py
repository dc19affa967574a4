"""The part of the graph that retrains a champion.

prepare -> decide -> if something is new: train -> evaluate, or the whole comparison; evaluate champion
                                          -> gate -> promote
                     else: skip

What follows a decision lies within its branch, with parameters only: Kubeflow Pipelines takes no output out
of a branch that may not run, and its local runner knows a condition on one named output only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from optduel.components.decide import component as deciding
from optduel.components.evaluate import component as evaluating
from optduel.components.gate import component as gating
from optduel.components.promote import component as promoting
from optduel.components.settings import Experiment, Retraining, canonical_json
from optduel.pipeline.graph.lean import lean
from optduel.pipeline.graph.placement import Placement

decide, gate = lean(deciding.decide), lean(gating.gate)
evaluate_champion = lean(evaluating.evaluate_champion)
promote, skip = lean(promoting.promote), lean(promoting.skip)


class RetrainingOutputs(NamedTuple):
    """What a retraining hands back; the rest is found in the folders of the run and of the champion."""

    card: dsl.HTML
    records: dsl.Dataset
    changes: dsl.HTML


class RetrainingGraph(NamedTuple):
    """What the retraining of one experiment is made from.

    Attributes:
        experiment: with a section `retraining`.
        spelled: the experiment as JSON that reaches a task as it is.
        retraining_spelled: its section, likewise.
        run: the run's name.
        train_candidate: makes the tasks that train and evaluate trials with given sections and seeds, JSON,
            and returns the last one.
        compare_arms: makes the tasks of the whole comparison, and returns the last one.
    """

    experiment: Experiment
    spelled: str
    retraining_spelled: str
    run: str
    placement: Placement
    train_candidate: Callable[[Any, str], Any]
    compare_arms: Callable[[], Any]

    def tasks(self, root: Any, records: Any) -> Any:
        """Makes the tasks.

        Args:
            root: the pipeline's parameter.
            records: of the prepare task.

        Returns:
            The task that decides.
        """
        retraining = self.experiment.retraining
        assert retraining is not None  # noqa: S101  # of whoever builds the graph
        inputs = {"root": root, "run": self.run}
        decided = self.placement.place(
            decide(experiment=self.spelled, records=records, **inputs), "decide", "report"
        )
        word = decided.outputs["Output"]
        with dsl.If(word == "train", name="train"):
            self._judged(retraining, decided, records, inputs)
        with dsl.Else(name="skip"):
            self.placement.place(skip(retraining=self.retraining_spelled, **inputs), "skip", "report")
        return decided

    def _judged(self, retraining: Retraining, decided: Any, records: Any, inputs: dict[str, Any]) -> None:
        sections: Any = ""
        if retraining.mode == "candidate":
            sections = decided.outputs["sections"]
            trained = self.train_candidate(sections, canonical_json(list(retraining.seeds)))
        else:
            trained = self.compare_arms()
        measured = self.placement.place(
            evaluate_champion(champion=retraining.champion, records=records, **inputs),
            "evaluate champion",
            "evaluate",
        )
        gated = self.placement.place(
            gate(experiment=self.spelled, sections=sections, records=records, **inputs), "gate", "report"
        ).after(trained, measured)
        promoted = promote(retraining=self.retraining_spelled, **inputs).after(gated)
        self.placement.place(promoted, "promote", "evaluate")
