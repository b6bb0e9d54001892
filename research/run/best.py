"""The best step so far by a metric of the validation split, and when to stop for want of a better.

All of it is a function of the evaluations, and lies in each checkpoint, so a resumed run goes on
counting where it was.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from research.errors import UserError, nearest

LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "mean_squared_error")


@dataclasses.dataclass(frozen=True)
class Best:
    """`value` at `step` is the best of `metric`; `since`: evaluations after it. value None: none
    was made yet."""

    metric: str
    value: float | None = None
    step: int = 0
    since: int = 0

    def after(self, step: int, metrics: Mapping[str, float]) -> "Best":
        """What it is when the evaluation after `step` gave these metrics.

        Raises UserError where it had nothing to measure the metric on.
        """
        if not self.metric:
            return self
        if self.metric not in metrics:
            raise UserError(
                f"config.train.best={self.metric!r}: what was evaluated after step {step} has "
                "nothing to measure it on; evaluate more (config.train.eval_batches)"
            )
        value = metrics[self.metric]
        if self.value is None or is_better(self.metric, value, self.value):
            return Best(self.metric, value, step)
        return dataclasses.replace(self, since=self.since + 1)

    def has_waited(self, patience: int) -> bool:
        """Whether there were so many evaluations without a better one; 0: that never counts."""
        return 0 < patience <= self.since

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return dataclasses.asdict(self)


def is_better(metric: str, new: float, old: float) -> bool:
    """Whether `new` is the better value; losses and their like are better lower."""
    if math.isnan(old):
        return not math.isnan(new)
    return new < old if metric.endswith(LOWER_IS_BETTER) else new > old


def from_meta(metric: str, meta: Mapping[str, Any]) -> Best:
    """What the checkpoint that a run goes on from says; another metric begins anew."""
    noted = meta.get("best") or {}
    return Best(**noted) if noted.get("metric") == metric else Best(metric)


def check(metric: str, patience: int, evaluates: bool, known: Collection[str]) -> None:
    """Raises UserError for a metric that no evaluation gives, or patience without one."""
    if patience and not metric:
        raise UserError(
            f"config.train.patience={patience} needs config.train.best, the metric that should "
            f"get better; there are: {', '.join(sorted(known))}"
        )
    if not metric:
        return
    if metric not in known:
        message = f"config.train.best={metric!r} is not a metric here"
        raise UserError(f"{message}{nearest(metric, known)}")
    if not evaluates:
        raise UserError(
            f"config.train.best={metric!r} needs evaluations to choose from: give "
            "config.train.eval_every (steps) or config.train.eval_epochs"
        )
