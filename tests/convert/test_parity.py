"""Invariant: logits and losses equal the reference's, for every family and class."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.convert import importer
from research.models import heads, transformer
from research.run.loaded import objectives_of
from research.tasks.pooled import pooled

GOLDEN = Path(__file__).parent / "golden"
CLASSES = sorted(path.name for path in GOLDEN.iterdir())


def close(ours, theirs):
    """Within 1e-4 of the largest logit, or of 1."""
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale)


class Answers:
    """The reference's inputs and outputs, and our batch with one segment a row."""

    def __init__(self, folder: Path):
        arrays = np.load(folder / "answers.npz")
        self.given = {k[3:]: arrays[k] for k in arrays if k.startswith("in_")}
        if self.given["input_ids"].ndim == 3:  # the choices of one example, each in a row here
            self.given = {k: v[0] if v.ndim == 3 else v for k, v in self.given.items()}
        self.found = {k[4:]: arrays[k] for k in arrays if k.startswith("out_")}
        ids, self.mask = self.given["input_ids"], self.given["attention_mask"]
        rows, length = ids.shape
        self.batch = {
            "tokens": ids,
            "segments": self.mask,
            "positions": np.broadcast_to(np.arange(length), ids.shape) * self.mask,
            "token_types": self.given.get("token_type_ids", np.zeros_like(ids)),
            "first": np.zeros((rows, 1), int),
            "last": self.mask.sum(1, keepdims=True) - 1,
            "segment_weights": np.ones((rows, 1), np.float32),
            "predict_positions": np.broadcast_to(np.arange(length), ids.shape),
        } | self._labels()
        self.batch = {k: jnp.asarray(v) for k, v in self.batch.items()}

    def packed(self) -> dict[str, jax.Array]:
        """The two texts in one row, like the choices of an example."""
        sizes = self.mask.sum(1)
        real = self.mask.astype(bool)
        first = np.array([0, sizes[0]])
        row = {
            "tokens": self.given["input_ids"][real],
            "segments": np.repeat([1, 2], sizes),
            "positions": np.concatenate([np.arange(n) for n in sizes]),
            "token_types": np.asarray(self.batch["token_types"])[real],
            "first": first,
            "last": first + sizes - 1,
            "segment_weights": np.ones(2, np.float32),
            "example": np.zeros(2, int),
            "is_right": np.arange(2) == self.given["labels"],
        }
        return {name: jnp.asarray(value)[None] for name, value in row.items()}

    def _labels(self) -> dict[str, np.ndarray]:
        made = {}
        given = self.given.get("labels")
        if given is not None and given.dtype.kind == "f":
            if given.ndim == 1:
                made["value"] = given[:, None]
            else:
                made |= {f"label_{i}": column[:, None] for i, column in enumerate(given.T)}
        elif given is not None and given.ndim == 2:
            known = given >= 0
            shifted = np.pad(given[:, 1:], [(0, 0), (0, 1)], constant_values=-100)
            made |= {
                "predict_targets": given * known,
                "predict_weights": known.astype(np.float32),
                "targets": given * known,
                "target_weights": known.astype(np.float32),
                "next_targets": shifted * (shifted >= 0),
                "next_weights": (shifted >= 0).astype(np.float32),
            }
        elif given is not None:
            made |= {"label": given[:, None], "random_next": given[:, None]}
        if "next_sentence_label" in self.given:
            made["random_next"] = self.given["next_sentence_label"][:, None]
        if "start_positions" in self.given:
            made["start"] = self.given["start_positions"][:, None]
            made["end"] = self.given["end_positions"][:, None]
        return made


def logits_of(name, imported, hidden, batch):
    """Our logits in the reference's layout."""
    params, model = imported.params, imported.config.model
    if name in ("masked_lm", "causal_lm"):
        x, bias, table = hidden, None, heads.output_table(params, model, name)
        if name == "masked_lm":
            head = {"params": params["heads"][name]}
            x, bias = heads.MaskedLM(model).apply(head, hidden)
        return heads.vocabulary_logits(x, table, bias, model.vocab_size)[..., : model.vocab_size]
    head = {"params": params["heads"][name]}
    classes = head["params"]["output"]["kernel"].shape[-1]
    if name in ("next_sentence", "sequence_classification", "multiple_choice"):
        pooling = getattr(imported.config.task, "pooling", "pooler")
        hidden = pooled(params, model, hidden, batch, pooling)
        if name != "multiple_choice":  # whose segments are one example's
            hidden = hidden[:, 0]
        return heads.Classifier(model, classes, bias=pooling != "last").apply(head, hidden)
    return heads.Classifier(model, classes).apply(head, hidden)


def compared(folder: Path) -> int:
    """Asserts that ours equal the reference's answers in a folder; returns how many there are."""
    name, imported = folder.name.partition(".")[0], importer.read(str(folder))
    assert imported.architecture == name
    model = imported.config.model
    objectives, _ = objectives_of(imported.config, imported.source.tokenizer)
    reference = Answers(folder)
    batch = reference.batch
    causal = name.startswith(("GPT2", "Llama"))
    pattern = objectives[0].pattern if objectives else ("causal" if causal else "full")

    @jax.jit
    def forward(params, batch):
        hidden = transformer.apply(params["backbone"], model, batch, pattern)
        return hidden, {o.name: o.loss(params, model, hidden, batch, None)[0] for o in objectives}

    if pattern == "causal" and "next_targets" in batch:
        batch |= {"targets": batch["next_targets"], "target_weights": batch["next_weights"]}
    if name.endswith("ForMultipleChoice"):
        batch = reference.packed()
    hidden, losses = forward(imported.params, batch)
    real = reference.mask.astype(bool)
    if not objectives:
        close(np.asarray(hidden)[real], reference.found["last_hidden_state"][real])
        if "pooler_output" not in reference.found:
            return 1
        first = pooled(imported.params, model, hidden, batch, "pooler")[:, 0]
        close(first, reference.found["pooler_output"])
        return 2
    for objective in objectives:
        logits = np.asarray(logits_of(objective.head_name, imported, hidden, batch))
        if objective.name == "multiple_choice":
            close(logits[..., 0], reference.found["logits"])
            continue
        if objective.name == "span_qa":
            theirs = [reference.found[f"{end}_logits"] for end in ("start", "end")]
            close(logits, np.stack(theirs, -1))
            continue
        key = "logits"
        if len(objectives) > 1:
            key = {"masked_lm": "prediction_logits"}.get(objective.name, "seq_relationship_logits")
        places = real if logits.ndim == 3 else slice(None)
        close(logits[places], reference.found[key][places])
    total = sum(float(losses[o.name]) / float(o.weight(batch)) for o in objectives)
    np.testing.assert_allclose(total, float(reference.found["loss"]), rtol=1e-5)
    return len(objectives) + 1


@pytest.mark.parametrize("name", CLASSES)
def test_logits_and_losses_equal_the_references(name):
    assert compared(GOLDEN / name) >= 1
