"""Searches learning rate, warm-up and batch size of the sentiment fine-tuning, on a subset.

    python -m pip install optuna
    python launch.py search --config=configs/experiments/sentiment_search.py --workdir=runs/search

With `:percent=5.0,trials=8` it takes five minutes on 2 CPU cores. Rates near 1e-3 were best
(macro-recall 0.410 on a part of the validation split, with batches of 16); the highest, 4.5e-3, and
the lowest, 7e-5, were behind (0.363, 0.331). Two trials were stopped early. The default was not run
to its end.
"""

from research.config import arguments
from research.lab.experiment import Run
from research.lab.search import Choice, Float, Search


def get_search(arg: str = "") -> Search:
    """Arguments: start, percent (of the training examples), trials."""
    args = arguments(arg, start="research/pretrained/bert", percent=20.0, trials=20)
    overrides = {
        "data.train.percent": args.percent,
        "train.epochs": 3.0,
        "train.eval_epochs": 0.5,
        "data.validation.percent": 25.0,
    }
    return Search(
        name="sentiment-search",
        run=Run("configs/finetune/sentiment.py", overrides, args.start),
        space={
            "optimizer.learning_rate": Float(5e-5, 5e-3, log=True),
            "optimizer.warmup": Float(0.0, 0.3),
            "train.batch_size": Choice((16, 32, 64)),
        },
        metric="macro_recall",
        trials=args.trials,
    )
