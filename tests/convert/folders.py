"""Small checkpoint folders as people have them, each with something that is easily read wrongly.

Config and weights are those of tests/convert/golden; the files of the tokenizer stand beside them.
What each must give is in the tests: the values of transformers 5.23.0 (Auto classes, float32) on
the same folder.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"
ENTRIES = 41  # of the vocabulary of the golden models

GEMMA_NAMES = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
LLAMA_NAMES = ("<unk>", "<s>", "</s>")
ROBERTA_NAMES = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT_NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Folder:
    """`golden`'s config and weights, `files` (name -> text or JSON) beside them.

    config: keys of config.json that are changed; None takes a key out.
    tensors: what is done to the weights.
    """

    golden: str
    files: Mapping[str, Any]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tensors: Callable[[Tensors], Tensors] = lambda tensors: tensors


def build(folder: Folder, path: Path) -> Path:
    """Writes the folder at `path` (which may hold nothing yet) and returns it."""
    path.mkdir(parents=True)
    golden = GOLDEN / folder.golden
    config = json.loads((golden / "config.json").read_text()) | dict(folder.config)
    config = {key: value for key, value in config.items() if value is not None}
    save_file(folder.tensors(load_file(golden / "model.safetensors")), path / "model.safetensors")
    for name, content in {"config.json": config, **folder.files}.items():
        (path / name).parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name).write_text(text, encoding="utf-8")
    return path


def added_tokens(names: Sequence[str]) -> list[dict[str, Any]]:
    """The special tokens of a tokenizer.json, with the ids 0, 1, …"""
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return [dict(id=number, content=name, **flags) for number, name in enumerate(names)]


def whole_words(names: Sequence[str], unk: str, single: str = "", pair: str = "") -> dict[str, Any]:
    """A tokenizer.json of whole words: `names`, then w0, w1, … up to ENTRIES.

    `single` ("<s> $A </s>") and `pair` are its frame; without them it has none.
    """
    plain = [f"w{i}" for i in range(ENTRIES - len(names))]
    vocab = {word: number for number, word in enumerate([*names, *plain])}
    used = {n: dict(id=n, ids=[vocab[n]], tokens=[n]) for n in single.split() if n in vocab}
    frame = dict(
        type="TemplateProcessing",
        single=_frame(single),
        pair=_frame(pair),
        special_tokens=used,
    )
    return dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=added_tokens(names),
        normalizer=None,
        pre_tokenizer={"type": "WhitespaceSplit"},
        post_processor=frame if single else None,
        decoder=None,
        model=dict(type="WordLevel", vocab=vocab, unk_token=unk),
    )


def _frame(text: str) -> list[dict[str, Any]]:
    parts, kind = [], 0
    for part in text.split():
        if part in ("$A", "$B"):
            kind = "AB".index(part[1])
            parts.append({"Sequence": {"id": part[1], "type_id": kind}})
        else:
            parts.append({"SpecialToken": {"id": part, "type_id": kind}})
    return parts


def vocabulary(*entries: str) -> str:
    """A vocab.txt of ENTRIES lines: BERT's special tokens, `entries`, then w0, w1, …"""
    lines = [*BERT_NAMES, *entries]
    return "\n".join([*lines, *(f"w{i}" for i in range(ENTRIES - len(lines)))]) + "\n"


def settings(**keys: Any) -> dict[str, Any]:
    """A tokenizer_config.json for a tokenizer.json that is taken as it is."""
    return {"tokenizer_config.json": dict(tokenizer_class="PreTrainedTokenizerFast", **keys)}


WORDPIECE = dict(
    tokenizer_class="BertTokenizer",
    pad_token="[PAD]",
    unk_token="[UNK]",
    cls_token="[CLS]",
    sep_token="[SEP]",
    mask_token="[MASK]",
)
GEMMA = {
    "tokenizer.json": whole_words(
        GEMMA_NAMES, "<unk>", "<bos> $A <eos>", "<bos> $A <eos> $B <eos>"
    ),
    **settings(
        bos_token="<bos>",
        eos_token="<eos>",
        cls_token="<bos>",
        sep_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    ),
}
GEMMA_IDS = dict(pad_token_id=0, eos_token_id=1, bos_token_id=2, cls_token_id=2, sep_token_id=1)
LLAMA = {
    "tokenizer.json": whole_words(LLAMA_NAMES, "<unk>", "<s> $A", "<s> $A <s> $B"),
    **settings(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"),
}
LLAMA_IDS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=2)
ROBERTA = {
    "tokenizer.json": whole_words(
        ROBERTA_NAMES, "<unk>", "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    ),
    **settings(
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    ),
}
BERT = {
    "tokenizer.json": whole_words(BERT_NAMES, "[UNK]", "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"),
    **settings(
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ),
}
_PAIRS = [*ROBERTA_NAMES, "a", "b", "c", "Ġ", "Ġa", "Ġb", "Ġc", *(f"x{i}" for i in range(29))]
ROBERTA_PAIRS = {
    "vocab.json": {word: number for number, word in enumerate(_PAIRS)},
    "merges.txt": "#version: 0.2\nĠ a\nĠ b\nĠ c\n",
    "tokenizer_config.json": dict(tokenizer_class="RobertaTokenizer", model_max_length=32),
}
_PIECES = [*LLAMA_NAMES, "<0x0A>", "▁", "a", "b", "▁a", "▁b", "é", *(f"x{i}" for i in range(31))]
SENTENCE_PIECES = dict(
    version="1.0",
    truncation=None,
    padding=None,
    added_tokens=added_tokens(LLAMA_NAMES),
    pre_tokenizer=None,
    post_processor=None,
    model=dict(
        type="BPE",
        dropout=None,
        unk_token="<unk>",
        continuing_subword_prefix=None,
        end_of_word_suffix=None,
        fuse_unk=True,
        byte_fallback=True,
        ignore_merges=False,
        vocab={word: number for number, word in enumerate(_PIECES)},
        merges=["▁ a", "▁ b"],
    ),
    normalizer=dict(
        type="Sequence",
        normalizers=[
            dict(type="Prepend", prepend="▁"),
            dict(type="Replace", pattern=dict(String=" "), content="▁"),
        ],
    ),
    decoder=dict(
        type="Sequence",
        decoders=[
            dict(type="Replace", pattern=dict(String="▁"), content=" "),
            dict(type="ByteFallback"),
            dict(type="Fuse"),
            dict(type="Strip", content=" ", start=1, stop=0),
        ],
    ),
)


def _wordpiece(*entries: str, **keys: Any) -> dict[str, Any]:
    return {"vocab.txt": vocabulary(*entries), "tokenizer_config.json": WORDPIECE | keys}


def _with_pooler(tensors: Tensors) -> Tensors:
    kernel, bias = np.ones((16, 16), np.float32), np.zeros(16, np.float32)
    return tensors | {"roberta.pooler.dense.weight": kernel, "roberta.pooler.dense.bias": bias}


FOLDERS: dict[str, Folder] = {
    "gemma_cls": Folder("ModernBertForSequenceClassification.mean", GEMMA, GEMMA_IDS),
    "gemma_mlm": Folder("ModernBertForMaskedLM", GEMMA, GEMMA_IDS),
    "gpt2_cls": Folder(
        "GPT2ForSequenceClassification",
        {
            "tokenizer.json": whole_words(("<|pad|>", "<|endoftext|>"), "<|endoftext|>"),
            **settings(pad_token="<|pad|>", eos_token="<|endoftext|>"),
        },
        dict(pad_token_id=0, bos_token_id=1, eos_token_id=1),
    ),
    "llama_lm": Folder("LlamaForCausalLM", LLAMA, LLAMA_IDS),
    "added_tokens": Folder(
        "BertForSequenceClassification",
        {
            "tokenizer_config.json": WORDPIECE | dict(do_lower_case=False),
            "vocab.txt": "\n".join(
                [*BERT_NAMES, "great", "film", "user", "url", "@", "##user"]
                + [f"w{i}" for i in range(28)]
            )
            + "\n",
            "added_tokens.json": {"@user": 39, "url": 8},
        },
    ),
    "strip_accents": Folder(
        "BertForSequenceClassification",
        _wordpiece(
            "schon", "schön", "mas", "más", "es", "war", do_lower_case=True, strip_accents=False
        ),
    ),
    "mask_blank": Folder(
        "RobertaForMaskedLM",
        ROBERTA_PAIRS
        | {
            "special_tokens_map.json": dict(
                bos_token="<s>",
                eos_token="</s>",
                unk_token="<unk>",
                sep_token="</s>",
                pad_token="<pad>",
                cls_token="<s>",
                mask_token=dict(
                    content="<mask>", single_word=False, lstrip=True, rstrip=False, normalized=False
                ),
            )
        },
    ),
    "left_over_pooler": Folder("RobertaForSequenceClassification", ROBERTA, tensors=_with_pooler),
    "distil_sinus": Folder(
        "DistilBertForMaskedLM", _wordpiece("a", "cat"), dict(sinusoidal_pos_embds=True)
    ),
    "label_names": Folder(
        "BertForTokenClassification",
        _wordpiece("a", "cat"),
        dict(
            id2label={str(i): f"LABEL_{i}" for i in range(3)},
            label2id={f"LABEL_{i}": i for i in range(3)},
        ),
    ),
    "hi_ner": Folder(
        "BertForTokenClassification",
        _wordpiece("रवि", "दिल्ली", "में", "है", "।", "zürich", "in", do_lower_case=False),
    ),
    "zh_ner": Folder(
        "BertForTokenClassification",
        _wordpiece("王", "小", "明", "住", "在", "北", "京", "。", do_lower_case=False),
    ),
    "qa": Folder("BertForQuestionAnswering", BERT),
    "pooling_cls": Folder(
        "BertModel",
        _wordpiece("a", "cat", "sat")
        | {
            "modules.json": [
                dict(idx=0, name="0", path="", type="sentence_transformers.models.Transformer"),
                dict(
                    idx=1,
                    name="1",
                    path="1_Pooling",
                    type="sentence_transformers.models.Pooling",
                ),
            ],
            "1_Pooling/config.json": dict(
                word_embedding_dimension=16,
                pooling_mode_cls_token=True,
                pooling_mode_mean_tokens=False,
            ),
        },
    ),
    "bert_cls": Folder("BertForSequenceClassification", BERT),
    "spm_lm": Folder("LlamaForCausalLM", LLAMA | {"tokenizer.json": SENTENCE_PIECES}, LLAMA_IDS),
}
