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
    """Length and rhythm of a run. One of `steps`, `epochs`, `examples` and `tokens` is given, the
    others are 0.

    Attributes:
      batch_size: positions of a batch (of its rows, padding included) in pre-training, examples in
        tasks.
      steps: the run's length in steps.
      epochs: the run's length in epochs.
      examples: the run's length in examples, of a task.
      tokens: the run's length in positions of rows, of a pre-training.
      accumulation: micro-batches of a step, and parts of an evaluation's batch; the result does not
        depend on it.
      log_every: steps between two lines of metrics.
      eval_every: steps between two evaluations; 0: only at the end.
      eval_epochs: the same as eval_every, in epochs.
      eval_batches: batches of an evaluation; 0: the whole split.
      samples: texts of the validation split that are written down, with what the model makes of
        them, at each evaluation; where a task generates, its metrics are measured on these.
      best: metric of the validation split by which the best checkpoint is kept beside the newest
        ones; "": none is.
      patience: evaluations without a better one that end the run; 0: none do.
      checkpoint_every: steps between two checkpoints; 0: only by the clock, and at the end.
      checkpoint_minutes: minutes between two checkpoints; 0: only by steps, and at the end.
      keep: newest checkpoints that stay.
      on_bad_step: what is done about a step whose loss or gradient is not finite, or whose loss is
        a spike: "stop" the run, "skip" the step (its batch is written aside), or "rollback" to the
        last checkpoint and leave out the batches since.
      bad_steps: steps in a row that are skipped, or times that the run goes back, before it stops.
      spike: a loss above so many times the running median is one; 0: none is.
      check_saves: whether each checkpoint is read back, beside the steps, before older ones go.
      wandb: project in Weights & Biases to which metrics and texts go too; "": none.
      watchdog_seconds: a step that takes longer ends the run with code 4, the stacks of all threads
        being written; 0: it may take for ever. The first step, which is compiled, evaluations and
        saves may take six times as long.
      watchdog_factor: it may take this many times the median of the steps before it, if that is
        longer.
      deterministic: on GPU the same numbers each time, for slower steps.
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
    """A run. `objective` makes it a pre-training, `task` a fine-tuning; exactly one is given.

    Attributes:
      seed: of everything that is drawn: weights, order, masks, dropout.
      init_from: a checkpoint to start from.
      init: what of it is used: "restore" its backbone (and heads of the same name), "fresh" only
        its shape and tokenizer, with new weights.
      tokenizer: the tokenizer.
      data: where text comes from.
      model: the shape of the backbone.
      objective: the losses of a pre-training.
      task: a fine-tuning.
      optimizer: how weights are changed.
      train: length and rhythm.
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
