"""What an experiment will take, before anything is made: steps, tokens and hours of each run."""

import dataclasses
import functools
import math
from collections.abc import Callable

from research import tasks
from research.data import corpus, pretraining
from research.data.batch import Layout
from research.experiments import checks
from research.experiments.experiment import Job
from research.experiments.sheets import Sheet
from research.models.config import ModelConfig
from research.objectives import make_objectives
from research.tasks import chat, text_generation
from research.tasks.protocol import Example
from research.training import flops

SHARE = 0.2  # of the peak of products that training is taken to reach; 0.1 to 0.4 were seen on CPU
TOKENS_OF_A_WORD = 1.4
NOTE = (
    f"About: tokens of tasks by their words, hours from products at {SHARE:.0%} of what this "
    "machine does in a large one of the model's dtype, for one run at a time; compiling and "
    "evaluating come on top."
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one run; steps None where they are a number of epochs of a corpus that was not read."""

    steps: int | None
    tokens: int | None
    hours: float | None


def table(jobs: list[Job], planned: list[Job], state: Callable[[Job], str]) -> Sheet:
    """The runs, what each starts from, and what it will take.

    Args:
        planned: all jobs of the experiment, of which `jobs` are chosen.
        state: what has been made of one; what is "finished" is not added up.
    """
    models = {job.run: known.config.model for job, known in checks.outlook(jobs, planned)}
    peak = functools.cache(flops.matmul_peak)
    examples: dict[str, list[Example]] = {}  # a source is read once
    rows, total = [], [0.0, 0.0]
    for job in jobs:
        found = _estimate(job, models[job.run], peak, examples)
        if state(job) != "finished":
            total[0] += found.tokens or 0
            total[1] += found.hours or 0.0
        start = job.after.name if job.after else job.config.init_from
        rows.append([job.workdir.name, start, *_shown(found), state(job)])
    rows.append(["to be made", "", "", f"{total[0]:,.0f}", f"{total[1]:.3f}", ""])
    header = ["run", "starts from", "steps", "tokens", "hours", "state"]
    return Sheet("Runs", header, rows, NOTE)


def _shown(found: Estimate) -> list[str]:
    unknown = "?"
    return [
        unknown if found.steps is None else f"{found.steps:,}",
        unknown if found.tokens is None else f"{found.tokens:,}",
        unknown if found.hours is None else f"{found.hours:.3f}",
    ]


def _estimate(
    job: Job,
    model: ModelConfig,
    peak: Callable[[str], float],
    examples: dict[str, list[Example]],
) -> Estimate:
    config, train, length = job.config, job.config.train, job.config.data.length
    if not job.train:
        return Estimate(0, 0, 0.0)
    if config.task is None:
        steps = train.steps or math.ceil(train.tokens / train.batch_size) or None
        tokens = steps * train.batch_size if steps else None
        layout = pretraining.row_layout(config.objective, length, config.data.slots)
        row = flops.train_step(model, layout, 1, make_objectives(config.objective, model))
    else:
        source = config.data.train
        if (key := repr(source)) not in examples:
            examples[key] = corpus.split(config, "train").examples
        found = examples[key]
        batches = math.ceil(len(found) / train.batch_size)
        seen = train.examples / train.batch_size or train.epochs * batches
        steps = train.steps or math.ceil(seen)
        # What is longer than a row is cut, but where it goes on in further windows.
        windows = tasks.kind_of(config.task) in ("tokens", "question", "story", "chat")
        most = math.inf if windows else length
        words = [min(_words(e) * TOKENS_OF_A_WORD, most) for e in found]
        tokens = round(steps * train.batch_size * sum(words) / max(len(words), 1))
        writes = tasks.name_of(config.task) in (text_generation.NAME, chat.NAME)
        row = 3 * flops.forward_per_row(model, Layout(length, config.data.slots), writes)
    if tokens is None:
        return Estimate(None, None, None)
    seconds = row / length * tokens / (SHARE * peak(model.dtype))
    return Estimate(steps, tokens, seconds / 3600)


def _words(example: Example) -> int:
    texts = [v for v in example.values() if isinstance(v, str)]
    texts += [message["content"] for message in example.get("messages", ())]
    choices = example.get("choices", [""])  # each is read with the text
    words = len(choices) * sum(len(t.split()) for t in texts)
    words += sum(len(choice.split()) for choice in choices)
    return words + len(example.get("tokens", ()))
