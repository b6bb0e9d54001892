"""Extractive question answering, as BERT on SQuAD (Devlin et al. 2018, section 4.2).

An answer's score is the start logit of its first token plus the end logit of its last; it is read
in the window where its first token has most context. The score of no answer is that of [CLS], the
lowest over all windows (`write_predictions` in BERT's run_squad.py).

Axes: R rows, S segments of a row, L positions of a row.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import logsumexp

from research.data.batch import framed
from research.data.encoding import Encoding
from research.errors import UserError
from research.metrics import answers
from research.models import heads
from research.models.attention import MASKED
from research.objectives.objective import Example, Prediction, sums
from research.tasks.task import Task
from research.tasks.windows import most_context, windows
from research.values import Size

NAME = "span_qa"
BEST = 5  # answers in a prediction
CANDIDATES = 100  # best spans of a window; several may have the same text
NEVER = 1e6  # null score difference of a context without tokens, above every threshold


Span = tuple[float, int, int]  # score, first token, last token
Answer = tuple[float, str, int]  # score, text, its first character in the context


@dataclasses.dataclass(frozen=True)
class SpanQAConfig:
    """Answers extracted from a context. Lengths are in tokens.

    Attributes:
      stride: distance between the starts of two successive windows of the context; a window longer
        than that overlaps with the next.
      max_question: a longer question is cut to this if it and its context do not fit in one row;
        any question is cut that would leave windows shorter than `stride`.
      max_answer: the longest answer that is predicted.
      unanswerable: whether a question may have no answer; only then may a prediction be empty.
      null_threshold: the prediction is empty if the score of no answer exceeds the best answer's by
        more than this; `evaluate` reports the best threshold.
    """

    stride: Size = 64
    max_question: Size = 24
    max_answer: Size = 48
    unanswerable: bool = False
    null_threshold: float = 0.0


def segment_log_probabilities(
    scores: Float[Array, "R L 2"], segments: Int[Array, "R L"], count: int
) -> Float[Array, "R S L 2"]:
    """Returns log-probabilities of start and end over each of `count` segments' own positions."""
    member = segments[:, None, :] == jnp.arange(1, count + 1)[None, :, None]
    return jax.nn.log_softmax(jnp.where(member[..., None], scores[:, None], MASKED), axis=2)


class SpanQA(Task):
    """Cross-entropy of an answer's first and last token in each window. Both are the window's first
    token, [CLS], if it does not contain the whole answer."""

    name = NAME
    kind = "question"
    forms = ((("question", "context"), "the answer"),)
    measures = ("loss", "window_accuracy")
    arrays = {"labels": ("start", "end")}
    metric = "f1"
    Options = SpanQAConfig

    @classmethod
    def score_names(cls, options):
        of_none = ("best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh")
        return ("exact_match", "f1", *(of_none if options.unanswerable else ()))

    def check(self):
        """Raises UserError for a stride that would skip tokens of the context, and for a threshold
        without `unanswerable`."""
        options, length = self.options, self.layout.length
        room = self._room
        if options.stride >= room:
            raise UserError(
                f"config.task.stride={options.stride}: rows of config.data.length={length} have "
                f"room for {room} tokens of question and context; stride must be from 1 to "
                f"{room - 1}"
            )
        if options.null_threshold and not options.unanswerable:
            raise UserError(
                f"config.task.null_threshold={options.null_threshold} needs "
                "config.task.unanswerable=true: only then may a prediction be empty"
            )

    @property
    def _room(self) -> int:
        """How many tokens of question and context fit in a row."""
        return self.layout.length - len(self.tokenizer.frame(2))

    def head(self, model):
        return heads.Classifier(model, classes=2)

    def loss(self, params, model, hidden, batch, row_keys):
        weights, scores = batch["segment_weights"], self.head_of(params, model, hidden)
        logp = segment_log_probabilities(scores, batch["segments"], weights.shape[1])
        gold = jnp.stack([batch["start"], batch["end"]], axis=-1)  # [R, S, 2]
        picked = jnp.take_along_axis(logp, gold[:, :, None], axis=2)[:, :, 0]
        return sums(-picked.mean(-1), jnp.all(jnp.argmax(logp, axis=2) == gold, axis=-1), weights)

    def outputs(self, params, model, hidden, batch):
        scores = self.head_of(params, model, hidden)
        return {"token": {"start": scores[..., 0], "end": scores[..., 1]}}

    def _cut(self, example: Example) -> tuple[np.ndarray, Encoding, list[tuple[int, int]]]:
        """Returns the question's ids, the context and its windows (first token, end)."""
        question = self.tokenizer.encode(example["question"]).ids
        context = self.tokenizer.encode(example["context"])
        room, stride = self._room, self.options.stride
        most = min(self.options.max_question, room - stride)
        question = question[: max(most, room - len(context.ids))]
        return question, context, windows(len(context.ids), room - len(question), stride)

    def _first_of_context(self, question: np.ndarray) -> int:
        """Returns the position where the context begins in a window."""
        ids = self.tokenizer.frame(2).ids
        return len(question) + len(ids[0]) + len(ids[1])

    def segments(self, example, number, labelled):
        question, context, spans = self._cut(example)
        gold = _gold(example, context, self.options.unanswerable) if labelled else None
        segments = []
        for start, end in spans:
            parts = [question, context.ids[start:end]]
            segment = framed(self.tokenizer, parts, self.layout.length)
            labels = {"start": 0, "end": 0}
            if gold and start <= gold[0] and gold[1] < end:
                shift = self._first_of_context(question) - start
                labels = {"start": gold[0] + shift, "end": gold[1] + shift}
            weight = float(labelled)
            segments.append(
                dataclasses.replace(segment, example=number, weight=weight, labels=labels)
            )
        return segments

    def predict(self, example, segments, outputs):
        options = self.options
        question, context, spans = self._cut(example)
        owner = most_context(len(context.ids), spans)
        before = self._first_of_context(question)
        candidates: list[Span] = []
        null = np.inf
        mass = []
        for w, ((start, end), logits) in enumerate(zip(spans, outputs, strict=True)):
            first, last = (np.asarray(logits[n], np.float64) for n in ("start", "end"))
            null = min(null, float(first[0] + last[0]))
            inside = slice(before, before + end - start)
            own = owner[start:end] == w
            scores = span_scores(first[inside], last[inside], own, options.max_answer)
            mass.append(scores.ravel())
            candidates += [(s, start + i, start + j) for s, i, j in best_spans(scores, CANDIDATES)]
        every = np.concatenate([*mass, [null] if options.unanswerable else [], [-np.inf]])
        ranked = _texts(example["context"], context, sorted(candidates, key=lambda span: -span[0]))
        return _prediction(options, ranked, null, float(logsumexp(every)))

    def counts(self, example, prediction):
        golds, said = example["answers"]["text"], prediction["answer"]
        count = answers.count_by_kind if self.options.unanswerable else answers.count_answerable
        return count(golds, said)

    def compute_metrics(self, counts):
        return answers.compute(counts)

    def show(self, example, prediction):
        said = prediction["answer"] or "no answer"
        return f"{example['question']} → {said} ({prediction['probability']:.0%})"


def span_scores(start: np.ndarray, end: np.ndarray, own: np.ndarray, longest: int) -> np.ndarray:
    """Returns scores [n, longest] or narrower: start[i] + end[i + k] at (i, k).

    The score is -inf beyond the last token, and if another window reads token i (`own` [n]).
    """
    width = min(longest, len(start))
    if not width:
        return np.zeros((0, 0))
    padded = np.pad(end, (0, width - 1), constant_values=-np.inf)
    ends = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.where(own, start, -np.inf)[:, None] + ends


def best_spans(scores: np.ndarray, count: int) -> list[Span]:
    """Returns (score, i, j) of the `count` best finite `span_scores`, j the last token."""
    flat = scores.ravel()
    best = np.argpartition(-flat, count)[:count] if len(flat) > count else np.arange(len(flat))
    # Sorted by place first, so that equal scores keep the order of the text.
    best = np.sort(best)
    best = best[np.argsort(-flat[best], kind="stable")]
    places = [(float(flat[n]), *divmod(int(n), scores.shape[1])) for n in best]
    return [(score, i, i + k) for score, i, k in places if score > -np.inf]


def _texts(raw: str, context: Encoding, spans: Sequence[Span]) -> list[Answer]:
    """Returns the first BEST spans with different texts, as (score, text, first character)."""
    answers_by_text: dict[str, Answer] = {}
    for score, i, j in spans:
        begin = int(context.starts[i])
        text = raw[begin : int(context.ends[j])]
        # A byte-level token may contain the space before its word, or be only a space.
        begin += len(text) - len(text.lstrip())
        text = text.strip()
        if text and text not in answers_by_text:
            answers_by_text[text] = (score, text, begin)
        if len(answers_by_text) == BEST:
            break
    return list(answers_by_text.values())


def _prediction(
    config: SpanQAConfig, ranked: Sequence[Answer], null: float, total: float
) -> Prediction:
    """Returns the answer, the best answers with probabilities, and the null score difference.

    ranked: best first; null: the score of no answer; total: logsumexp of all scores.
    """
    candidates = list(ranked)
    if config.unanswerable or not ranked:
        candidates.append((null, "", -1))
        candidates.sort(key=lambda answer: -answer[0])
    listed = [
        {
            "text": text,
            "start": start,
            "probability": round(float(np.exp(score - total)), 6) if ranked else 1.0,
        }
        for score, text, start in candidates
    ]
    said = next((a for a in listed if a["text"]), listed[0])
    difference = {}
    if config.unanswerable:
        # The rounded value decides, so that a threshold taken from a prediction is exact.
        ahead = round(null - ranked[0][0], 6) if ranked else NEVER
        difference = {"null_score_difference": ahead}
        if ahead > config.null_threshold:
            said = next(a for a in listed if not a["text"])
    prediction = {"answer": said["text"]} | {n: said[n] for n in ("start", "probability")}
    return prediction | {"answers": listed[:BEST]} | difference


def _gold(example: Example, context: Encoding, unanswerable: bool) -> tuple[int, int] | None:
    """Returns the first and last token of the example's first answer; partly covered tokens count.

    None for a question without an answer.
    """
    texts, starts = example["answers"]["text"], example["answers"]["answer_start"]
    if not texts:
        if not unanswerable:
            raise UserError(
                f"example {example['id']!r} has no answer; if questions may have none, set "
                "config.task.unanswerable=true"
            )
        return None
    if starts[0] is None:
        times = example["context"].count(texts[0])
        where = f"occurs {times} times in" if times else "does not occur in"
        raise UserError(
            f"example {example['id']!r}: its answer {texts[0]!r} has no answer_start and {where} "
            f'the context; give answers as {{"text": ["…"], "answer_start": [n]}}, n counted in '
            "characters from 0"
        )
    begin, end = starts[0], starts[0] + len(texts[0])
    touched = np.flatnonzero((context.ends > begin) & (context.starts < end))
    if not touched.size:
        raise UserError(
            f"example {example['id']!r}: its answer {texts[0]!r} covers no token of the context"
        )
    return int(touched[0]), int(touched[-1])
