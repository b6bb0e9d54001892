"""A fine-tuning as users of transformers write it: its own model in a plain PyTorch loop.

    python benchmarks/finetune_torch.py PROBLEM.json ANSWERS.json

Needs torch and transformers only. `benchmarks.finetune` starts it; PROBLEM has the model, examples
and hyper-parameters (`benchmarks.finetune._problem`). Batches are padded to their longest row;
float32; no validation during training. ANSWERS gets a prediction for each test example, and the
seconds of training and of predicting.
"""

import json
import random
import sys
import time

import torch
import transformers

BATCH = 64  # rows at a time, without gradients
BEST = 20  # starts and ends to combine
IGNORED = -100  # the label that transformers' losses ignore


def main(problem_file, answers_file):
    """Trains, predicts and writes the answers."""
    with open(problem_file, encoding="utf-8") as file:
        problem = json.load(file)
    transformers.set_seed(problem["seed"])
    random.seed(problem["seed"])
    kind = KINDS[problem["kind"]](problem)
    started = time.perf_counter()
    rows = [row for example in problem["train"] for row in kind.train_rows(example)]
    train(kind.model, rows, problem)
    trained = time.perf_counter()
    predictions = predict(kind, problem["test"])
    seconds = {"train": trained - started, "predict": time.perf_counter() - trained}
    with open(answers_file, "w", encoding="utf-8") as file:
        json.dump({"predictions": predictions, "seconds": seconds}, file)


def train(model, rows, problem):
    """Trains by AdamW without decay on biases and norms, linear warm-up and decay, clipping."""
    model.train()
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": problem["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=problem["learning_rate"],
        betas=(problem["b1"], problem["b2"]),
        eps=problem["epsilon"],
    )
    size = problem["batch_size"]
    steps = -(-len(rows) // size) * problem["epochs"]
    warm = round(problem["warmup"] * steps)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warm, steps)
    for _ in range(problem["epochs"]):
        random.shuffle(rows)
        for first in range(0, len(rows), size):
            loss = model(**padded(rows[first : first + size])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), problem["clip"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def padded(rows):
    """Stacks the rows of a batch as tensors, padded to the longest."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {}
    for key, value in rows[0].items():
        if isinstance(value, list):
            filler = IGNORED if key == "labels" else 0
            filled = [row[key] + [filler] * (longest - len(row[key])) for row in rows]
        else:
            filled = [row[key] for row in rows]
        batch[key] = torch.tensor(filled)
    return batch


@torch.no_grad()
def predict(kind, examples):
    """Returns the prediction of each example; sorts rows by length to pad less."""
    kind.model.eval()
    rows = [(i, row) for i, example in enumerate(examples) for row in kind.test_rows(example)]
    order = sorted(range(len(rows)), key=lambda r: len(rows[r][1]["input_ids"]))
    outputs = [None] * len(rows)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        batch_outputs = kind.model(**padded([rows[r][1] for r in chosen]))
        for at, r in enumerate(chosen):
            outputs[r] = kind.read(batch_outputs, at)
    by_example = [[] for _ in examples]
    for (i, _), output in zip(rows, outputs, strict=True):
        by_example[i].append(output)
    return [kind.answer(e, o) for e, o in zip(examples, by_example, strict=True)]


class Kind:
    """Base class of the three kinds of task."""

    auto = None

    def __init__(self, problem):
        self.problem = problem
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(problem["source"])
        labels = problem["labels"]
        options = {"num_labels": len(labels)} if labels else {}
        self.model = self.auto.from_pretrained(problem["source"], **options)
        self.ids = {label: i for i, label in enumerate(labels)}

    def encoded(self, *texts, **options):
        return self.tokenizer(*texts, truncation=True, max_length=self.problem["length"], **options)


class Classification(Kind):
    """Predicts the label of a text."""

    auto = transformers.AutoModelForSequenceClassification

    def test_rows(self, example):
        return [dict(self.encoded(example["text"]))]

    def train_rows(self, example):
        return [row | {"labels": self.ids[example["label"]]} for row in self.test_rows(example)]

    def read(self, outputs, at):
        return int(outputs.logits[at].argmax())

    def answer(self, example, outputs):
        return {"label": self.problem["labels"][outputs[0]]}


class Tokens(Kind):
    """Predicts a tag for each word, at its first piece."""

    auto = transformers.AutoModelForTokenClassification

    def encoding(self, example):
        encoding = self.encoded(example["tokens"], is_split_into_words=True)
        words, firsts = encoding.word_ids(), {}
        for position, word in enumerate(words):
            if word is not None:
                firsts.setdefault(word, position)
        return dict(encoding), firsts

    def test_rows(self, example):
        return [self.encoding(example)[0]]

    def train_rows(self, example):
        row, firsts = self.encoding(example)
        labels = [IGNORED] * len(row["input_ids"])
        for word, position in firsts.items():
            labels[position] = self.ids[example["tags"][word]]
        return [row | {"labels": labels}]

    def read(self, outputs, at):
        return outputs.logits[at].argmax(-1).tolist()

    def answer(self, example, outputs):
        _, firsts = self.encoding(example)
        tags = ["O"] * len(example["tokens"])
        for word, position in firsts.items():
            tags[word] = self.problem["labels"][outputs[0][position]]
        return {"tags": tags}


class Questions(Kind):
    """Predicts the span of a context that answers a question, in overlapping windows."""

    auto = transformers.AutoModelForQuestionAnswering

    def encoding(self, example):
        return self.tokenizer(
            example["question"],
            example["context"],
            truncation="only_second",
            max_length=self.problem["length"],
            stride=self.problem["overlap"],
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def windows(self, example):
        encoding = self.encoding(example)
        keys = self.tokenizer.model_input_names
        for w, offsets in enumerate(encoding["offset_mapping"]):
            context = [i == 1 for i in encoding.sequence_ids(w)]
            yield {k: encoding[k][w] for k in keys if k in encoding}, offsets, context

    def test_rows(self, example):
        return [row for row, _, _ in self.windows(example)]

    def train_rows(self, example):
        start = example["answers"]["answer_start"][0]
        end = start + len(example["answers"]["text"][0])
        rows = []
        for row, offsets, context in self.windows(example):
            inside = [
                p
                for p, (a, b) in enumerate(offsets)
                if context[p] and a < end and b > start and b > a
            ]
            shown = [p for p in range(len(offsets)) if context[p]]
            whole = offsets[shown[0]][0] <= start and offsets[shown[-1]][1] >= end
            first, last = (inside[0], inside[-1]) if inside and whole else (0, 0)
            rows.append(row | {"start_positions": first, "end_positions": last})
        return rows

    def read(self, outputs, at):
        return outputs.start_logits[at], outputs.end_logits[at]

    def answer(self, example, outputs):
        best, text = float("-inf"), ""
        for (_, offsets, context), (starts, ends) in zip(
            self.windows(example), outputs, strict=True
        ):
            starts, ends = (logits[: len(offsets)] for logits in (starts, ends))
            for s in starts.topk(min(BEST, len(starts))).indices.tolist():
                for e in ends.topk(min(BEST, len(ends))).indices.tolist():
                    allowed = context[s] and context[e] and 0 <= e - s < self.problem["max_answer"]
                    score = float(starts[s] + ends[e])
                    if allowed and score > best:
                        best, text = score, example["context"][offsets[s][0] : offsets[e][1]]
        return {"answer": text}


KINDS = {"classification": Classification, "tokens": Tokens, "question": Questions}

if __name__ == "__main__":
    main(*sys.argv[1:])
