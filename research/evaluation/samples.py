"""Texts of the validation split with what a run's weights make of them, to be read on the way."""

from typing import Any

from research import tasks
from research.config import Config
from research.data import store
from research.evaluation import evaluator, predictor
from research.metrics.counts import total
from research.objectives.objective import Objective
from research.run.loaded import Loaded
from research.run.run import Run

TOKENS = 32  # of a held-out document, of which a pre-training is asked
WORDS = 4  # at least, in what is left of them as text


def shown(run: Run, params: Any) -> tuple[str, dict[str, float]]:
    """A Markdown list: the first `config.train.samples` texts, each with a prediction; and the
    metrics of these where the task generates, "sampled_f1" and so on.

    Of a pre-training that fills masks, a word in the middle of the beginning of a held-out document
    is masked; another one goes on from the first half of it. Where the task generates, texts are
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
        # What reads one text, masks before what comes next, or else pairs.
        asked = sorted((o for o in run.objectives if o.asks), key=lambda o: len(o.asks))[:1]
        lines = [_line(loaded, o, words) for o in asked for words in _held_out(run, count)]
    return "".join(f"- {' '.join(line.split())}\n" for line in lines), measured


def names(config: Config) -> dict[str, str]:
    """The metrics of the samples of a task that generates -> their names in the task: those that
    its loss does not give."""
    if not (config.train.samples and config.task is not None and tasks.of(config.task).generates):
        return {}
    known = tasks.measures(config.task)
    return {f"sampled_{name}": name for name in tasks.metrics(config.task) if name not in known}


def _held_out(run: Run, count: int) -> list[list[str]]:
    """The first words of the first documents of the held-out text."""
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
        example, there = objective.sample(words)
        answer = predictor.show_text(loaded, example)
    else:
        half = len(words) // 2
        prompt, there = " ".join(words[:half]), " ".join(words[half:])
        answer = f"{prompt} → {predictor.continuation(loaded, prompt)}"
    return f"{answer} (it was: {there})" if there else answer
