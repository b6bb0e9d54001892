"""Makes tests/convert/golden from the reference: tiny random models of every class, and what they
answer. It needs torch and transformers, which nothing else here does:

    python3 -m venv /tmp/reference
    /tmp/reference/bin/pip install torch==2.13.0 transformers==5.23.0
    /tmp/reference/bin/python -m tests.convert.make_golden tests/convert/golden

Each class gets a folder as `save_pretrained` writes it, and answers.npz: the ids of two texts of
different length, what the model gives for them, and its losses for labels drawn at random. A number
after the folder is another seed than 0. CLASS.VARIANT is a class with other keys in config.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

VOCAB = 41
LENGTHS = (11, 7)
SHAPE = dict(
    vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=20, max_position_embeddings=32,
)  # fmt: skip
LABELS = dict(id2label={0: "O", 1: "B-LOC", 2: "I-LOC"}, label2id={"O": 0, "B-LOC": 1, "I-LOC": 2})
CONFIGS = {
    "Bert": lambda: transformers.BertConfig(**SHAPE, **LABELS),
    "Roberta": lambda: transformers.RobertaConfig(
        **SHAPE | dict(max_position_embeddings=34), **LABELS, type_vocab_size=1
    ),
    "DistilBert": lambda: transformers.DistilBertConfig(
        vocab_size=VOCAB, dim=16, n_layers=2, n_heads=4, hidden_dim=20,
        max_position_embeddings=32, **LABELS,
    ),
    "GPT2": lambda: transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=32, pad_token_id=0,
        bos_token_id=1, eos_token_id=1, **LABELS,
    ),
    "Llama": lambda: transformers.LlamaConfig(
        **SHAPE, **LABELS, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    ),
    "ModernBert": lambda: transformers.ModernBertConfig(
        **SHAPE | dict(num_hidden_layers=4), **LABELS, local_attention=6,
        global_attn_every_n_layers=3, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        cls_token_id=2, sep_token_id=3, attn_implementation="eager",
    ),
}  # fmt: skip
CLASSES = {
    "Bert": (
        "Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction",
        "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
        "ForMultipleChoice",
    ),
    "Roberta": (
        "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification",
        "ForQuestionAnswering", "ForMultipleChoice",
    ),
    "DistilBert": (
        "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification",
        "ForQuestionAnswering", "ForMultipleChoice",
    ),
    "GPT2": ("Model", "LMHeadModel", "ForSequenceClassification"),
    "Llama": ("Model", "ForCausalLM", "ForSequenceClassification"),
    "ModernBert": (
        "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification",
        "ForQuestionAnswering", "ForMultipleChoice",
    ),
}  # fmt: skip
# What else a class can be, by the keys of its config.json.
VARIANTS = {
    "BertForSequenceClassification": {
        "regression": dict(problem_type="regression", num_labels=1),
        "multi_label": dict(problem_type="multi_label_classification"),
    },
    "ModernBertForSequenceClassification": {"mean": dict(classifier_pooling="mean")},
}
SPECIALS = {
    "Roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "GPT2": ["<|pad|>", "<|endoftext|>"],
    "Llama": ["<|pad|>", "<|endoftext|>"],
}
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer(family: str) -> Tokenizer:
    specials = SPECIALS.get(family, BERT_SPECIALS)
    words = [*specials, *(f"w{i}" for i in range(VOCAB - len(specials)))]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=specials[-1]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(specials)
    return made


def labels(
    name: str, variant: str, rng: np.random.Generator, inputs: dict
) -> dict[str, torch.Tensor]:
    """Labels for the class's own loss."""
    if variant == "regression":
        return {"labels": torch.tensor(rng.normal(size=2), dtype=torch.float32)}
    if variant == "multi_label":
        return {"labels": torch.tensor(rng.integers(0, 2, size=(2, 3)), dtype=torch.float32)}
    if name.endswith("ForMultipleChoice"):
        return {"labels": torch.tensor(rng.integers(0, 2, size=1))}
    rows, length = inputs["input_ids"].shape
    if name.endswith("ForQuestionAnswering"):
        first = rng.integers(0, min(LENGTHS), size=(2, rows))
        return {"start_positions": torch.tensor(first[0]), "end_positions": torch.tensor(first[1])}
    if name.endswith("ForSequenceClassification"):
        return {"labels": torch.tensor(rng.integers(0, 3, size=rows))}
    if name.endswith("ForNextSentencePrediction"):
        return {"labels": torch.tensor(rng.integers(0, 2, size=rows))}
    drawn = rng.integers(0, 3 if "TokenClass" in name else VOCAB, size=(rows, length))
    chosen = np.where(inputs["attention_mask"].numpy() > 0, drawn, -100)
    found = {"labels": torch.tensor(chosen)}
    if name.endswith("ForPreTraining"):
        found["next_sentence_label"] = torch.tensor(rng.integers(0, 2, size=rows))
    return found if name[-5:] != "Model" or "LMHead" in name else {}


def make(family: str, kind: str, folder: Path, seed: int, variant: str = "") -> None:
    name = family + kind
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    for key, value in VARIANTS[name][variant].items() if variant else ():
        setattr(config, key, value)
    if kind == "ForQuestionAnswering":
        config.id2label, config.label2id = {0: "start", 1: "end"}, {"start": 0, "end": 1}
    model = getattr(transformers, name)(config).eval()
    rng = np.random.default_rng([seed, len(name)])
    for parameter in model.parameters():  # as drawn, biases are 0 and norms 1
        parameter.data += torch.tensor(rng.normal(0, 0.2, parameter.shape), dtype=torch.float32)
    padding = model.get_input_embeddings().padding_idx
    ids = rng.integers(len(SPECIALS.get(family, BERT_SPECIALS)), VOCAB, size=(2, max(LENGTHS)))
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    if kind == "ForQuestionAnswering":  # its loss counts padding as possible starts and ends
        mask[:] = 1
    ids = np.where(mask, ids, padding if padding is not None else 0)
    types = np.where(np.arange(max(LENGTHS)) >= 4, mask, 0)
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    if family == "Bert":
        inputs["token_type_ids"] = torch.tensor(types)
    if kind == "ForMultipleChoice":  # one example, the two texts are its choices
        inputs = {name: x[None] for name, x in inputs.items()}
    with torch.no_grad():
        given = labels(name, variant, rng, inputs)
        found = model(**inputs, **given)
    target = folder / (f"{name}.{variant}" if variant else name)
    model.save_pretrained(target)
    # Half the bytes: torch's default file is aligned and has a longer header for nothing.
    path = target / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    tokenizer(family).save(str(target / "tokenizer.json"))
    answers = {k: v.numpy() for k, v in found.items() if isinstance(v, torch.Tensor)}
    arrays = {f"in_{k}": v.numpy() for k, v in {**inputs, **given}.items()}
    np.savez_compressed(
        target / "answers.npz", **arrays, **{f"out_{k}": v for k, v in answers.items()}
    )
    for extra in ("generation_config.json",):
        (target / extra).unlink(missing_ok=True)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    root, seed = Path(sys.argv[1]), int((*sys.argv, 0)[2])
    for family, kinds in CLASSES.items():
        for kind in kinds:
            for variant in ("", *VARIANTS.get(family + kind, ())):
                make(family, kind, root, seed, variant)
                print(family + kind, variant)
