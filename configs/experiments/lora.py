"""Low-rank adapters of several ranks against full fine-tuning and against the head alone.

    python launch.py experiment --config=configs/experiments/lora.py --workdir=runs/lora

After LoRA (Hu et al. 2021, arXiv:2106.09685), from the shipped BERT or another checkpoint. 62
minutes of a CPU core; on 2 cores two runs at a time, for about half. Findings (docs/results.md): on
questions no rank differs resolvably from full fine-tuning; on sentiment each is worse, and less so
with more adapted weights.
"""

from configs.experiments.ablation import SIZES, TASKS
from research.config import arguments
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

RANKS = (1, 4, 16)
MATRICES = {"qv": ("attention/(query|value)",), "all": ("attention/", "mlp/")}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: start, rate (of adapters, and of heads alone), seeds."""
    args = arguments(arg, start="research/pretrained/bert", rate=4e-3, seeds=3)
    adapted = {"optimizer.learning_rate": args.rate}
    variants = {"full": {}, "head": adapted | {"optimizer.freeze": ("backbone",)}}
    for name, matrices in MATRICES.items():
        for rank in RANKS:
            chosen = {"model.lora_rank": rank, "model.lora": matrices}
            variants[f"{name}-{rank}"] = adapted | chosen | {"model.lora_alpha": float(2 * rank)}
    runs, rows = {}, {name: {} for name in variants}
    for task in ("sentiment", "questions"):
        config, _, overrides = TASKS[task]
        common = {**overrides, **SIZES["tiny"].subsets[task], "train.eval_batches": 4}
        for name, changes in variants.items():
            rows[name][task] = f"{name}-{task}"
            runs[f"{name}-{task}"] = Run(
                f"configs/finetune/{config}.py",
                common | changes,
                args.start,
                seeds=tuple(range(args.seeds)),
            )
    columns = {task: Column(method=TASKS[task].method) for task in ("sentiment", "questions")}
    return Experiment("lora", runs, table=Table(rows, columns, "full"))
