"""The families of public checkpoints; a new one is one file and one line here."""

from research.convert.bert import BERT, DISTILBERT, ROBERTA
from research.convert.family import Family, HfConfig
from research.convert.gpt2 import GPT2
from research.convert.llama import LLAMA
from research.convert.modernbert import MODERNBERT
from research.errors import UserError

# An export takes the first that holds the shape, BERT's being the widest of the first three.
FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (ROBERTA, DISTILBERT, BERT, GPT2, LLAMA, MODERNBERT)
}
# Models that are often taken for one of these.
RELATIVES = {
    "bert": ("albert", "deberta", "deberta-v2", "electra", "mpnet", "roformer", "nomic_bert"),
    "roberta": ("camembert", "xlm-roberta", "xlm-roberta-xl", "longformer", "luke"),
    "gpt2": ("gpt_neo", "gpt_neox", "gptj", "opt"),
    "llama": ("gemma", "gemma2", "gemma3_text", "mistral", "phi3", "qwen2", "qwen3", "smollm3"),
    "modernbert": ("modernbert-decoder",),
}


def family_of(hf: HfConfig) -> Family:
    """The family of a config.json. Raises UserError for an unknown one."""
    supported = f"supported: {', '.join(sorted(FAMILIES))}"
    kind, classes = hf.get("model_type"), hf.get("architectures") or []
    if kind is None:
        for family in FAMILIES.values():
            if set(classes) & set(family.classes):
                return family
        told = f", and its architectures {classes} are not known" if classes else ""
        raise UserError(f"config.json lacks 'model_type'{told}; {supported}")
    if kind not in FAMILIES:
        near = [name for name, kinds in RELATIVES.items() if kind in kinds]
        told = f"; the nearest of these is {near[0]}" if near else ""
        raise UserError(f"config.json: model_type {kind!r} is not supported; {supported}{told}")
    return FAMILIES[kind]
