"""What a pre-trained checkpoint predicts: fillings of a mask, the next sentence, the next token."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.batch import Layout, Slot
from research.data.special_tokens import Templated
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.evaluation.evaluator import Reader
from research.objectives.protocol import Objective
from research.tasks.protocol import Example, Outputs, Prediction
from research.tasks.sequence_classification import segments

MASK = "[MASK]"  # understood whatever the tokenizer calls its own


def fillings(
    objective: Objective, tokenizer: Tokenizer, layout: Layout, examples: Sequence[Example]
) -> Reader:
    """The most probable tokens for each mask token of an example's "text".

    A prediction is {"masks": [[{"token", "probability"}, …], …]}, best first.

    Raises UserError for a tokenizer without a mask token.
    """
    mask = tokenizer.require("mask", "filling it")
    name, around = tokenizer.token(mask), len(tokenizer.frame(1))

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        text = example["text"].replace(MASK, name)
        masks = [match.span() for match in re.finditer(re.escape(name), text)]
        ids = tokenizer.encode(Templated.of(text, masks)).ids
        slot = segments(tokenizer, [ids], max(layout.length, len(ids) + around))
        if len(slot) > layout.length:
            raise UserError(
                f"{_place(example)} has {len(ids)} tokens, more than the {layout.length - around} "
                "that this checkpoint reads at a time"
            )
        places = np.flatnonzero(slot.tokens == mask)
        if not len(places):
            raise UserError(
                f"{_place(example)} has no {name}; write {name} where a word is to be found"
            )
        targets = np.full(len(places), mask)
        slot = dataclasses.replace(slot, predict_positions=places, predict_targets=targets)
        return [dataclasses.replace(slot, example=number, weight=0.0)]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        found = outputs[0]
        pairs = zip(found["token"], found["probability"], strict=True)
        return {"masks": [_choices(tokenizer, *pair) for pair in pairs]}

    def show(example: Example, prediction: Prediction) -> str:
        return f"{example['text']} → {'; '.join(map(_listed, prediction['masks']))}"

    # Room for the predictions of any row: as many as its slots can have. Texts that are asked one
    # by one share a program, however many each has.
    most = max(e["text"].replace(MASK, name).count(name) for e in examples)
    most = max(1, most) if len(examples) > 1 else layout.length
    predictions = min(layout.length, layout.slots * most)
    layout = dataclasses.replace(layout, predictions=predictions)
    return Reader(layout, objective, make_slots, predict, show)


def following(objective: Objective, tokenizer: Tokenizer, layout: Layout) -> Reader:
    """Whether "text_b" follows "text_a": {"next_sentence_probability": p}.

    Pairs longer than a row are cut at the end of the longer text.
    """

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        parts = [tokenizer.encode(example[name]).ids for name in ("text_a", "text_b")]
        slot = segments(tokenizer, parts, layout.length)
        return [dataclasses.replace(slot, example=number, weight=0.0)]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        return {"next_sentence_probability": round(float(outputs[0]["probability"][0]), 6)}

    def show(example: Example, prediction: Prediction) -> str:
        share = prediction["next_sentence_probability"]
        return f"{example['text_a']} / {example['text_b']} → next sentence with {share:.1%}"

    return Reader(layout, objective, make_slots, predict, show)


def continuing(objective: Objective, tokenizer: Tokenizer, layout: Layout) -> Reader:
    """The most probable tokens after "text": {"next": [{"token", "probability"}, …]}, best first.

    Of a text longer than a row the end is read; a prefix language model reads all of it in both
    directions.
    """
    begin = tokenizer.begin("every text begins with it")
    prefix = objective.pattern == "prefix"
    layout = dataclasses.replace(layout, prefix=prefix)

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        ids = tokenizer.encode(example["text"]).ids[-(layout.length - len(begin)) :]
        tokens = np.concatenate([begin, ids]).astype(np.int32)
        seen = len(tokens) if prefix else 0
        types = np.zeros(len(tokens), np.int32)
        return [Slot(tokens, types, example=number, weight=0.0, prefix=seen)]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        found = outputs[0]
        return {"next": _choices(tokenizer, found["token"], found["probability"])}

    def show(example: Example, prediction: Prediction) -> str:
        return f"{example['text']} → {_listed(prediction['next'])}"

    return Reader(layout, objective, make_slots, predict, show)


def _place(example: Example) -> str:
    return f"the text of example {example['id']!r}" if "id" in example else "the text"


def _choices(tokenizer: Tokenizer, ids: np.ndarray, shares: np.ndarray) -> list[dict]:
    """A token is written as the text that it stands for; a special one, or half a word, by name."""
    made = []
    for number, share in zip(ids, shares, strict=True):
        number = int(number)
        text = tokenizer.token(number)
        if number not in tokenizer.special_ids and not text.startswith("##"):
            text = tokenizer.decode([number]) or text
        made.append({"token": text, "probability": round(float(share), 6)})
    return made


def _listed(choices: Sequence[Mapping]) -> str:
    """Choices in one line; a blank, which would not be seen, is shown as it is written in code."""
    named = ((c["token"].strip() or repr(c["token"]), c["probability"]) for c in choices)
    return ", ".join(f"{token} {share:.1%}" for token, share in named)
