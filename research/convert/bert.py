"""BERT, RoBERTa and DistilBERT: one architecture with three sets of tensor names.

Layouts: transformers' modeling_bert.py, modeling_roberta.py, modeling_distilbert.py.
"""

from collections.abc import Sequence
from typing import Any

from research.convert.family import (
    REQUIRED,
    SIZES,
    Family,
    HfConfig,
    Keys,
    encoder_classes,
    only,
    read_keys,
    write_keys,
)
from research.convert.mapping import Rule, Table, dense, norm
from research.models.config import ModelConfig
from research.models.params import STACKED

OFFSET = 2  # RoBERTa's positions start after the padding token's id, 1
CLASSIFIERS = ("sequence_classification", "token_classification", "multiple_choice")

BERT_KEYS: Keys = {
    **SIZES,
    "max_positions": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "activation": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
DISTILBERT_KEYS: Keys = {
    "vocab_size": ("vocab_size", REQUIRED),
    "layers": ("n_layers", REQUIRED),
    "width": ("dim", REQUIRED),
    "heads": ("n_heads", REQUIRED),
    "mlp_width": ("hidden_dim", REQUIRED),
    "initializer_range": ("initializer_range", 0.02),
    "max_positions": ("max_position_embeddings", 512),
    "activation": ("activation", "gelu"),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
}


def _embeddings(model: ModelConfig, prefix: str, offset: int = 0) -> list[Rule]:
    e = "backbone/embedding"
    positions = Table(model.max_positions, offset)
    return [
        Rule(f"{prefix}embeddings.word_embeddings.weight", (f"{e}/word",), Table(model.vocab_size)),
        Rule(f"{prefix}embeddings.position_embeddings.weight", (f"{e}/position",), positions),
        Rule(
            f"{prefix}embeddings.token_type_embeddings.weight",
            (f"{e}/token_type",),
            Table(model.token_types),
        ),
        *norm(f"{prefix}embeddings.LayerNorm", f"{e}/norm"),
    ]


def _blocks(prefix: str) -> list[Rule]:
    at = f"{prefix}encoder.layer.{{layer}}."
    return [
        *dense(f"{at}attention.self.query", f"{STACKED}attention/query"),
        *dense(f"{at}attention.self.key", f"{STACKED}attention/key"),
        *dense(f"{at}attention.self.value", f"{STACKED}attention/value"),
        *dense(f"{at}attention.output.dense", f"{STACKED}attention/output", inputs=2),
        *norm(f"{at}attention.output.LayerNorm", f"{STACKED}attention_norm"),
        *dense(f"{at}intermediate.dense", f"{STACKED}mlp/up"),
        *dense(f"{at}output.dense", f"{STACKED}mlp/down"),
        *norm(f"{at}output.LayerNorm", f"{STACKED}mlp_norm"),
    ]


def _masked_lm(model: ModelConfig, transform: str, its_norm: str, bias: str) -> list[Rule]:
    head = "heads/masked_lm"
    return [
        *dense(transform, f"{head}/transform"),
        *norm(its_norm, f"{head}/norm"),
        Rule(bias, (f"{head}/bias",), Table(model.vocab_size)),
    ]


def _classifiers(heads: Sequence[str] = CLASSIFIERS) -> list[Rule]:
    """The classification heads; a class has at most one of them."""
    return [rule for head in heads for rule in dense("classifier", f"heads/{head}/output")]


def _bert_rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    transform = "cls.predictions.transform"
    return [
        *_embeddings(model, prefix),
        *_blocks(prefix),
        *dense(f"{prefix}pooler.dense", "backbone/pooler/dense"),
        *_masked_lm(model, f"{transform}.dense", f"{transform}.LayerNorm", "cls.predictions.bias"),
        *dense("cls.seq_relationship", "heads/next_sentence/output"),
        *_classifiers(),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _bert_model(hf: HfConfig) -> ModelConfig:
    only(hf, "position_embedding_type", "absolute")
    only(hf, "is_decoder", False)
    only(hf, "tie_word_embeddings", True)
    return ModelConfig(
        **read_keys(hf, BERT_KEYS),
        embedding_norm=True,
        norm_place="post",
    )


BERT = Family(
    model_type="bert",
    classes={
        **encoder_classes("Bert"),
        "BertForPreTraining": ("masked_lm", "next_sentence"),
        "BertForNextSentencePrediction": ("next_sentence",),
    },
    prefix="bert.",
    pooled=(
        "BertModel",
        "BertForPreTraining",
        "BertForNextSentencePrediction",
        "BertForSequenceClassification",
        "BertForMultipleChoice",
    ),
    poolings={"pooler": ""},
    to_model=_bert_model,
    to_hf=lambda model: write_keys(model, BERT_KEYS),
    rules=_bert_rules,
    ignored=("*embeddings.position_ids",),
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)


# RoBERTa (Liu et al. 2019, arXiv:1907.11692)


def _roberta_rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    # RoBERTa's sequence classifier contains the dense layer that is BERT's pooler.
    sequence = "sequence_classification" in heads
    pooler = "classifier.dense" if sequence else f"{prefix}pooler.dense"
    return [
        *_embeddings(model, prefix, OFFSET),
        *_blocks(prefix),
        *dense(pooler, "backbone/pooler/dense"),
        *_masked_lm(model, "lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        *dense("classifier.out_proj", "heads/sequence_classification/output"),
        *_classifiers(CLASSIFIERS[1:]),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _roberta_model(hf: HfConfig) -> ModelConfig:
    only(hf, "pad_token_id", 1)
    positions = hf.get("max_position_embeddings", 514) - OFFSET
    own = {"max_position_embeddings": positions, "type_vocab_size": 1}
    return _bert_model({**hf, **own})


def _roberta_hf(model: ModelConfig) -> dict[str, Any]:
    return write_keys(model, BERT_KEYS) | dict(
        max_position_embeddings=model.max_positions + OFFSET,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


ROBERTA = Family(
    model_type="roberta",
    classes=encoder_classes("Roberta"),
    prefix="roberta.",
    pooled=("RobertaModel", "RobertaForSequenceClassification", "RobertaForMultipleChoice"),
    poolings={"pooler": ""},
    to_model=_roberta_model,
    to_hf=_roberta_hf,
    rules=_roberta_rules,
    pad=1,
    ignored=("*embeddings.position_ids",),
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)


# DistilBERT (Sanh et al. 2019, arXiv:1910.01108)


def _distilbert_rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    at = f"{prefix}transformer.layer.{{layer}}."
    return [
        *_embeddings(model, prefix),
        *dense(f"{at}attention.q_lin", f"{STACKED}attention/query"),
        *dense(f"{at}attention.k_lin", f"{STACKED}attention/key"),
        *dense(f"{at}attention.v_lin", f"{STACKED}attention/value"),
        *dense(f"{at}attention.out_lin", f"{STACKED}attention/output", inputs=2),
        *norm(f"{at}sa_layer_norm", f"{STACKED}attention_norm"),
        *dense(f"{at}ffn.lin1", f"{STACKED}mlp/up"),
        *dense(f"{at}ffn.lin2", f"{STACKED}mlp/down"),
        *norm(f"{at}output_layer_norm", f"{STACKED}mlp_norm"),
        *dense("pre_classifier", "backbone/pooler/dense"),
        *_masked_lm(model, "vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        *_classifiers(),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _distilbert_model(hf: HfConfig) -> ModelConfig:
    # "sinusoidal_pos_embds" only says how the stored position table was initialised.
    return ModelConfig(
        **read_keys(hf, DISTILBERT_KEYS),
        embedding_norm=True,
        norm_place="post",
        norm_epsilon=1e-12,
        pooler_activation="relu",
    )


DISTILBERT = Family(
    model_type="distilbert",
    classes=encoder_classes("DistilBert"),
    prefix="distilbert.",
    pooled=("DistilBertForSequenceClassification", "DistilBertForMultipleChoice"),
    poolings={"pooler": ""},
    to_model=_distilbert_model,
    to_hf=lambda model: write_keys(model, DISTILBERT_KEYS) | {"sinusoidal_pos_embds": False},
    rules=_distilbert_rules,
    ignored=("*embeddings.position_ids",),
    copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)
