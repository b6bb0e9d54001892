"""The keys of a config: the dataclasses that a config file's values become."""

import dataclasses
from typing import Annotated, Any, Literal

from research.data.config import DataConfig, TokenizerConfig
from research.models.config import ModelConfig
from research.optim.optimizer import OptimizerConfig
from research.sharding.mesh import MeshConfig
from research.values import Amount, Count, Range, Seed, Size


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length and intervals of a run. Exactly one of `steps`, `epochs`, `examples` and `tokens` is
    set, the others are 0.

    Attributes:
      batch_size: positions of a batch (including padding) in pre-training, examples in tasks.
      steps: the run's length in steps.
      epochs: the run's length in epochs.
      examples: the run's length in examples, for a task.
      tokens: the run's length in positions of rows, for a pre-training.
      accumulation: micro-batches of a step, and parts of an evaluation's batch; the result does not
        depend on it.
      log_every: steps between two lines of metrics.
      eval_every: steps between two evaluations; 0: only at the end.
      eval_epochs: the same as eval_every, in epochs.
      eval_batches: batches of an evaluation; 0: the whole split.
      samples: texts of the validation split that are written, with the model's predictions, at each
        evaluation; if the task generates, its metrics are measured on these texts.
      best: metric of the validation split by which the best checkpoint is kept beside the newest
        ones; "": no best checkpoint is kept.
      patience: evaluations without a better one after which the run ends; 0: no limit.
      checkpoint_every: steps between two checkpoints; 0: only by the clock, and at the end.
      checkpoint_minutes: minutes between two checkpoints; 0: only by steps, and at the end.
      keep: number of newest checkpoints that are kept.
      on_bad_step: reaction to a step whose loss or gradient is not finite, or whose loss is a
        spike: "stop" the run, "skip" the step (its batch is written aside), or "rollback" to the
        last checkpoint and leave out the batches since.
      bad_steps: skipped steps in a row, or rollbacks, after which the run stops.
      spike: a loss above this many times the running median is a spike; 0: none is.
      check_saves: whether each checkpoint is read back, while training goes on, before older ones
        are removed.
      wandb: project in Weights & Biases that also gets metrics and texts; "": none.
      watchdog_seconds: a step that takes longer ends the run with code 4, after the stacks of all
        threads are written; 0: no limit. The first step, which is compiled, evaluations and saves
        may take six times as long.
      watchdog_factor: a step may take this many times the median of earlier steps, if that is
        longer.
      deterministic: on GPU, gives the same numbers each time, with slower steps.
    """

    batch_size: Size = 4096
    steps: Count = 0
    epochs: Amount = 0.0
    examples: Count = 0
    tokens: Count = 0
    accumulation: Size = 1
    log_every: Size = 20
    eval_every: Count = 0
    eval_epochs: Amount = 0.0
    eval_batches: Count = 0
    samples: Count = 0
    best: str = ""
    patience: Count = 0
    checkpoint_every: Count = 0
    checkpoint_minutes: Amount = 10.0
    keep: Size = 2
    on_bad_step: Literal["stop", "skip", "rollback"] = "stop"
    bad_steps: Size = 20
    spike: Amount = 0.0
    check_saves: bool = True
    wandb: str = ""
    watchdog_seconds: Amount = 600.0
    watchdog_factor: Annotated[float, Range(1)] = 20.0
    deterministic: bool = False

    @property
    def eval_steps(self) -> int:
        """Steps of an evaluation, each of a part of a batch; 0: the whole split."""
        return self.eval_batches * self.accumulation


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. `objective` makes it a pre-training, `task` a fine-tuning; exactly one is set.

    Attributes:
      seed: seed of all random draws: weights, order, masks, dropout.
      init_from: a checkpoint to start from.
      init: "restore" uses its backbone (and heads of the same name), "fresh" only its shape and
        tokenizer, with new weights.
      tokenizer: the tokenizer.
      data: the sources of texts.
      model: the shape of the backbone.
      objective: the losses of a pre-training.
      task: the task of a fine-tuning.
      optimizer: update rule, schedule and frozen params.
      train: length and intervals.
      mesh: how devices share the work.
    """

    seed: Seed = 0
    init_from: str = ""
    init: Literal["restore", "fresh"] = "restore"
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: Any = None
    task: Any = None
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
