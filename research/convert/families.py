"""The families of public checkpoints; a new one is one file and one line here."""

from research.convert.bert import BERT, DISTILBERT, ROBERTA
from research.convert.family import Family, HfConfig
from research.convert.gpt2 import GPT2
from research.convert.llama import LLAMA
from research.convert.modernbert import MODERNBERT
from research.errors import UserError, nearest

# An export takes the first that holds the shape, BERT's being the widest of the first three.
FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (ROBERTA, DISTILBERT, BERT, GPT2, LLAMA, MODERNBERT)
}


def family_of(hf: HfConfig) -> Family:
    """The family of a config.json. Raises UserError for an unknown one."""
    kind = hf.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"config.json: model_type {kind!r} is not known{nearest(str(kind), FAMILIES)}"
        )
    return FAMILIES[kind]
