"""BERT, RoBERTa and DistilBERT: one shape, three sets of names.

Layouts: transformers' modeling_bert.py, modeling_roberta.py, modeling_distilbert.py.
"""

from typing import Any

from research.convert.family import NAMES, Family, HfConfig, activation, need, only
from research.convert.mapping import Rule, Table, dense, norm
from research.models.config import ModelConfig

LAYER = "backbone/layers/"
OFFSET = 2  # RoBERTa's positions count from the padding token's id, 1, on


def _encoder(changed: dict[str, Any]) -> ModelConfig:
    common = dict(embedding_norm=True, norm_place="post")
    return ModelConfig(**common | changed)


def _embeddings(model: ModelConfig, prefix: str, offset: int) -> list[Rule]:
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
        *dense(f"{at}attention.self.query", f"{LAYER}attention/query"),
        *dense(f"{at}attention.self.key", f"{LAYER}attention/key"),
        *dense(f"{at}attention.self.value", f"{LAYER}attention/value"),
        *dense(f"{at}attention.output.dense", f"{LAYER}attention/output", inputs=2),
        *norm(f"{at}attention.output.LayerNorm", f"{LAYER}attention_norm"),
        *dense(f"{at}intermediate.dense", f"{LAYER}mlp/up"),
        *dense(f"{at}output.dense", f"{LAYER}mlp/down"),
        *norm(f"{at}output.LayerNorm", f"{LAYER}mlp_norm"),
    ]


def _masked_lm(model: ModelConfig, transform: str, its_norm: str, bias: str) -> list[Rule]:
    head = "heads/masked_lm"
    return [
        *dense(transform, f"{head}/transform"),
        *norm(its_norm, f"{head}/norm"),
        Rule(bias, (f"{head}/bias",), Table(model.vocab_size)),
    ]


def _bert_rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "BertModel" else "bert."
    classifier = {
        "BertForSequenceClassification": "sequence_classification",
        "BertForTokenClassification": "token_classification",
        "BertForMultipleChoice": "multiple_choice",
    }.get(name, "")
    transform = "cls.predictions.transform"
    return [
        *_embeddings(model, prefix, 0),
        *_blocks(prefix),
        *dense(f"{prefix}pooler.dense", "backbone/pooler/dense"),
        *_masked_lm(model, f"{transform}.dense", f"{transform}.LayerNorm", "cls.predictions.bias"),
        *dense("cls.seq_relationship", "heads/next_sentence/output"),
        *(dense("classifier", f"heads/{classifier}/output") if classifier else []),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _bert_model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    only(hf, "position_embedding_type", "absolute")
    only(hf, "is_decoder", False)
    only(hf, "tie_word_embeddings", True)
    return _encoder(
        dict(
            vocab_size=need(hf, "vocab_size"),
            layers=need(hf, "num_hidden_layers"),
            width=need(hf, "hidden_size"),
            heads=need(hf, "num_attention_heads"),
            mlp_width=need(hf, "intermediate_size"),
            max_positions=hf.get("max_position_embeddings", 512),
            token_types=hf.get("type_vocab_size", 2),
            norm_epsilon=hf.get("layer_norm_eps", 1e-12),
            activation=activation(hf, "hidden_act", "gelu"),
            pooler=any(name.endswith("pooler.dense.weight") for name in tensors),
            dropout=hf.get("hidden_dropout_prob", 0.1),
            attention_dropout=hf.get("attention_probs_dropout_prob", 0.1),
        )
    )


def _bert_hf(model: ModelConfig) -> dict[str, Any]:
    return dict(
        vocab_size=model.vocab_size,
        num_hidden_layers=model.layers,
        hidden_size=model.width,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_width,
        max_position_embeddings=model.max_positions,
        type_vocab_size=model.token_types,
        layer_norm_eps=model.norm_epsilon,
        hidden_act=NAMES[model.activation],
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.attention_dropout,
        initializer_range=model.initializer_range,
    )


BERT = Family(
    model_type="bert",
    classes={
        "BertModel": (),
        "BertForPreTraining": ("masked_lm", "next_sentence"),
        "BertForMaskedLM": ("masked_lm",),
        "BertForNextSentencePrediction": ("next_sentence",),
        "BertForSequenceClassification": ("sequence_classification",),
        "BertForTokenClassification": ("token_classification",),
        "BertForMultipleChoice": ("multiple_choice",),
        "BertForQuestionAnswering": ("span_qa",),
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
    to_hf=_bert_hf,
    rules=_bert_rules,
    ignored=("*embeddings.position_ids", "cls.predictions.decoder.*"),
)


# RoBERTa (Liu et al. 2019, arXiv:1907.11692)


def _roberta_rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "RobertaModel" else "roberta."
    # Its sequence classifier brings the dense layer that BERT has in the pooler.
    sequence = name == "RobertaForSequenceClassification"
    pooler = "classifier.dense" if sequence else f"{prefix}pooler.dense"
    classifier = {
        "RobertaForTokenClassification": "token_classification",
        "RobertaForMultipleChoice": "multiple_choice",
    }.get(name, "")
    return [
        *_embeddings(model, prefix, OFFSET),
        *_blocks(prefix),
        *dense(pooler, "backbone/pooler/dense"),
        *_masked_lm(model, "lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        *(dense("classifier.out_proj", "heads/sequence_classification/output") if sequence else []),
        *(dense("classifier", f"heads/{classifier}/output") if classifier else []),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _roberta_model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    only(hf, "pad_token_id", 1)
    positions = hf.get("max_position_embeddings", 514) - OFFSET
    own = {"max_position_embeddings": positions, "type_vocab_size": 1}
    if "classifier.dense.weight" in tensors:
        tensors |= {"pooler.dense.weight"}
    return _bert_model({**hf, **own}, tensors)


def _roberta_hf(model: ModelConfig) -> dict[str, Any]:
    return _bert_hf(model) | dict(
        max_position_embeddings=model.max_positions + OFFSET,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


ROBERTA = Family(
    model_type="roberta",
    classes={
        "RobertaModel": (),
        "RobertaForMaskedLM": ("masked_lm",),
        "RobertaForSequenceClassification": ("sequence_classification",),
        "RobertaForTokenClassification": ("token_classification",),
        "RobertaForMultipleChoice": ("multiple_choice",),
        "RobertaForQuestionAnswering": ("span_qa",),
    },
    prefix="roberta.",
    pooled=("RobertaModel", "RobertaForSequenceClassification", "RobertaForMultipleChoice"),
    poolings={"pooler": ""},
    to_model=_roberta_model,
    to_hf=_roberta_hf,
    rules=_roberta_rules,
    ignored=("*embeddings.position_ids", "lm_head.decoder.*"),
)


# DistilBERT (Sanh et al. 2019, arXiv:1910.01108)


def _distilbert_rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "DistilBertModel" else "distilbert."
    at = f"{prefix}transformer.layer.{{layer}}."
    e = "backbone/embedding"
    classifier = {
        "DistilBertForSequenceClassification": "sequence_classification",
        "DistilBertForTokenClassification": "token_classification",
        "DistilBertForMultipleChoice": "multiple_choice",
    }.get(name, "")
    return [
        Rule(f"{prefix}embeddings.word_embeddings.weight", (f"{e}/word",), Table(model.vocab_size)),
        Rule(
            f"{prefix}embeddings.position_embeddings.weight",
            (f"{e}/position",),
            Table(model.max_positions),
        ),
        *norm(f"{prefix}embeddings.LayerNorm", f"{e}/norm"),
        *dense(f"{at}attention.q_lin", f"{LAYER}attention/query"),
        *dense(f"{at}attention.k_lin", f"{LAYER}attention/key"),
        *dense(f"{at}attention.v_lin", f"{LAYER}attention/value"),
        *dense(f"{at}attention.out_lin", f"{LAYER}attention/output", inputs=2),
        *norm(f"{at}sa_layer_norm", f"{LAYER}attention_norm"),
        *dense(f"{at}ffn.lin1", f"{LAYER}mlp/up"),
        *dense(f"{at}ffn.lin2", f"{LAYER}mlp/down"),
        *norm(f"{at}output_layer_norm", f"{LAYER}mlp_norm"),
        *dense("pre_classifier", "backbone/pooler/dense"),
        *_masked_lm(model, "vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        *(dense("classifier", f"heads/{classifier}/output") if classifier else []),
        *dense("qa_outputs", "heads/span_qa/output"),
    ]


def _distilbert_model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    only(hf, "sinusoidal_pos_embds", False)  # they are stored as learnt ones if it is true
    return _encoder(
        dict(
            vocab_size=need(hf, "vocab_size"),
            layers=need(hf, "n_layers"),
            width=need(hf, "dim"),
            heads=need(hf, "n_heads"),
            mlp_width=need(hf, "hidden_dim"),
            max_positions=hf.get("max_position_embeddings", 512),
            norm_epsilon=1e-12,
            activation=activation(hf, "activation", "gelu"),
            pooler="pre_classifier.weight" in tensors,
            pooler_activation="relu",
            dropout=hf.get("dropout", 0.1),
            attention_dropout=hf.get("attention_dropout", 0.1),
        )
    )


def _distilbert_hf(model: ModelConfig) -> dict[str, Any]:
    return dict(
        vocab_size=model.vocab_size,
        n_layers=model.layers,
        dim=model.width,
        n_heads=model.heads,
        hidden_dim=model.mlp_width,
        max_position_embeddings=model.max_positions,
        activation=NAMES[model.activation],
        dropout=model.dropout,
        attention_dropout=model.attention_dropout,
        initializer_range=model.initializer_range,
        sinusoidal_pos_embds=False,
    )


DISTILBERT = Family(
    model_type="distilbert",
    classes={
        "DistilBertModel": (),
        "DistilBertForMaskedLM": ("masked_lm",),
        "DistilBertForSequenceClassification": ("sequence_classification",),
        "DistilBertForTokenClassification": ("token_classification",),
        "DistilBertForMultipleChoice": ("multiple_choice",),
        "DistilBertForQuestionAnswering": ("span_qa",),
    },
    prefix="distilbert.",
    pooled=("DistilBertForSequenceClassification", "DistilBertForMultipleChoice"),
    poolings={"pooler": ""},
    to_model=_distilbert_model,
    to_hf=_distilbert_hf,
    rules=_distilbert_rules,
    ignored=("*embeddings.position_ids", "vocab_projector.weight"),
)
