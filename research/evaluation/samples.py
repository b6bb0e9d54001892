"""Sample predictions on the validation split, to read while a run trains."""

from typing import Any

from research import tasks
from research.config import Config
from research.data import store
from research.evaluation import evaluator, predictor
from research.metrics.counts import total
from research.objectives.objective import Objective
from research.run.loaded import Loaded
from research.run.run import Run

TOKENS = 32  # first tokens of a held-out document that a pre-training predicts
WORDS = 4  # fewest words in the text of these tokens


def shown(run: Run, params: Any) -> tuple[str, dict[str, float]]:
    """A Markdown list of the first `config.train.samples` texts with predictions; and, if the task
    generates, the metrics of these texts, "sampled_f1" and so on.

    A masked LM predicts a masked word in the middle of the first words of a held-out document;
    other pre-trainings continue the first half of these words. If the task generates, texts are
    decoded as its config says.
    """
    loaded = Loaded(
        params=params,
        model=run.model,
        tokenizer=run.tokenizer,
        config=run.config,
        info=None,
        objectives=run.objectives,
        task=run.task,
        mesh=run.mesh,
        placement=run.config.mesh,
    )
    count, measured = run.config.train.samples, {}
    if run.task is not None:
        examples = run.validation_examples[:count]
        predicted = predictor.predict(loaded, examples)
        lines = map(run.task.show, examples, predicted)
        if run.task.prompt is not None:
            sums = total(evaluator.task_counts(run.task, examples, predicted))
            scores = run.task.compute_metrics(sums)
            measured = {name: scores[key] for name, key in names(run.config).items()}
    else:
        # An objective that reads one text, masked LM before causal LM, or else pairs.
        chosen = sorted((o for o in run.objectives if o.asks), key=lambda o: len(o.asks))[:1]
        lines = [_line(loaded, o, words) for o in chosen for words in _held_out(run, count)]
    return "".join(f"- {' '.join(line.split())}\n" for line in lines), measured


def names(config: Config) -> dict[str, str]:
    """Metrics of a generating task's samples -> their names in the task, without those that the
    loss gives."""
    if not (config.train.samples and config.task is not None and tasks.of(config.task).generates):
        return {}
    known = tasks.measures(config.task)
    return {f"sampled_{name}": name for name in tasks.metrics(config.task) if name not in known}


def _held_out(run: Run, count: int) -> list[list[str]]:
    """The first words of each of the first held-out documents."""
    data, tokenizer = run.config.data, run.tokenizer
    corpus = store.build(data.corpus, "validation", data.held_out_percent, tokenizer, data.cache)
    texts: list[list[str]] = []
    for block in map(corpus.block, range(corpus.blocks)):
        for document, length in enumerate(block.lengths):
            if len(texts) == count:
                return texts
            tokens = block.slice(document, 0, min(int(length), TOKENS, data.length // 2))[0]
            words = tokenizer.decode(tokens).split()
            if len(words) >= WORDS:
                texts.append(words)
    return texts


def _line(loaded: Loaded, objective: Objective, words: list[str]) -> str:
    if objective.pattern == "full":
        example, original = objective.sample(words)
        answer = predictor.show_text(loaded, example)
    else:
        half = len(words) // 2
        prompt, original = " ".join(words[:half]), " ".join(words[half:])
        answer = f"{prompt} → {predictor.continuation(loaded, prompt)}"
    return f"{answer} (it was: {original})" if original else answer
