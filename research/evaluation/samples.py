"""Texts of the validation split with what a run's weights make of them, to be read on the way."""

from typing import Any

from research import tasks
from research.config import Config
from research.data import store
from research.evaluation import evaluator, predictor, pretrained
from research.evaluation.metrics import total
from research.tasks.chat import ChatConfig
from research.tasks.text_generation import TextGenerationConfig
from research.training.inference import Loaded
from research.training.run import Run

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
            found = run.task.finish(sums)
            measured = {name: found[key] for name, key in names(run.config).items()}
    elif any(o.name == "masked_lm" for o in run.objectives):
        lines = [_filled(loaded, words) for words in _held_out(run, count)]
    elif any(o.pattern != "full" for o in run.objectives):
        lines = [_continued(loaded, words) for words in _held_out(run, count)]
    else:
        lines = [_followed(loaded, words) for words in _held_out(run, count)]
    return "".join(f"- {' '.join(line.split())}\n" for line in lines), measured


def names(config: Config) -> dict[str, str]:
    """The metrics of the samples of a task that generates -> their names in the task: those that
    its loss does not give."""
    if not (config.train.samples and isinstance(config.task, TextGenerationConfig | ChatConfig)):
        return {}
    known = tasks.measures(config.task)
    return {f"sampled_{name}": name for name in tasks.metrics(config.task) if name not in known}


def _held_out(run: Run, count: int) -> list[list[str]]:
    """The first words of the first documents of the held-out text."""
    data, tokenizer = run.config.data, run.tokenizer
    found = store.build(data.corpus, "validation", data.held_out_percent, tokenizer, data.cache)
    texts: list[list[str]] = []
    for block in map(found.block, range(found.blocks)):
        for document, length in enumerate(block.lengths):
            if len(texts) == count:
                return texts
            tokens = block.slice(document, 0, min(int(length), TOKENS, data.length // 2))[0]
            words = tokenizer.decode(tokens).split()
            if len(words) >= WORDS:
                texts.append(words)
    return texts


def _filled(loaded: Loaded, words: list[str]) -> str:
    middle = len(words) // 2
    asked = [*words[:middle], pretrained.MASK, *words[middle + 1 :]]
    answer = predictor.show_text(loaded, {"text": " ".join(asked)})
    return f"{answer} (it was: {words[middle]})"


def _continued(loaded: Loaded, words: list[str]) -> str:
    half = len(words) // 2
    prompt = " ".join(words[:half])
    answer = predictor.continuation(loaded, prompt)
    return f"{prompt} → {answer} (it was: {' '.join(words[half:])})"


def _followed(loaded: Loaded, words: list[str]) -> str:
    half = len(words) // 2
    pair = {"text_a": " ".join(words[:half]), "text_b": " ".join(words[half:])}
    return predictor.show_text(loaded, pair)
