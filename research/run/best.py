"""Tracks the best step by a metric of the validation split, and decides on early stopping.

It depends only on the evaluations, and each checkpoint stores it, so a resumed run keeps counting.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from research.errors import UserError, nearest

LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "mean_squared_error")


@dataclasses.dataclass(frozen=True)
class Best:
    """The best `value` of `metric`, the `step` that reached it, and the number of evaluations
    `since`. value is None before the first evaluation."""

    metric: str
    value: float | None = None
    step: int = 0
    since: int = 0

    def after(self, step: int, metrics: Mapping[str, float]) -> "Best":
        """Returns the best after an evaluation at `step` with these metrics.

        Raises UserError if the evaluation could not measure the metric.
        """
        if not self.metric:
            return self
        if self.metric not in metrics:
            raise UserError(
                f"config.train.best={self.metric!r}: the evaluation after step {step} had nothing "
                "to measure it on; evaluate more (config.train.eval_batches)"
            )
        value = metrics[self.metric]
        if self.value is None or is_better(self.metric, value, self.value):
            return Best(self.metric, value, step)
        return dataclasses.replace(self, since=self.since + 1)

    def has_waited(self, patience: int) -> bool:
        """Whether `patience` evaluations brought nothing better; patience 0 never ends a run."""
        return 0 < patience <= self.since

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON value that a checkpoint stores."""
        return dataclasses.asdict(self)


def is_better(metric: str, new: float, old: float) -> bool:
    """Whether `new` beats `old`; for LOWER_IS_BETTER metrics the lower value wins."""
    if math.isnan(old):
        return not math.isnan(new)
    return new < old if metric.endswith(LOWER_IS_BETTER) else new > old


def from_meta(metric: str, meta: Mapping[str, Any]) -> Best:
    """Reads the best from a checkpoint's meta; starts over if the metric has changed."""
    noted = meta.get("best") or {}
    return Best(**noted) if noted.get("metric") == metric else Best(metric)


def check(metric: str, patience: int, evaluates: bool, known: Collection[str]) -> None:
    """Raises UserError for a metric that no evaluation measures, or patience without a metric."""
    if patience and not metric:
        raise UserError(
            f"config.train.patience={patience} needs config.train.best, the metric that should "
            f"improve; one of: {', '.join(sorted(known))}"
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
