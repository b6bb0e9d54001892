"""The families of public checkpoints. To add one, write its file and list it here."""

from research.convert.bert import BERT, DISTILBERT, ROBERTA
from research.convert.family import Family, HfConfig
from research.convert.gpt2 import GPT2
from research.convert.llama import LLAMA
from research.convert.modernbert import MODERNBERT
from research.errors import UserError

# An export takes the first family that has the shape; of the first three, BERT allows the most.
FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (ROBERTA, DISTILBERT, BERT, GPT2, LLAMA, MODERNBERT)
}
# Similar architectures that are not supported, by the family nearest to them.
RELATIVES = {
    "bert": ("albert", "deberta", "deberta-v2", "electra", "mpnet", "roformer", "nomic_bert"),
    "roberta": ("camembert", "xlm-roberta", "xlm-roberta-xl", "longformer", "luke"),
    "gpt2": ("gpt_neo", "gpt_neox", "gptj", "opt"),
    "llama": ("gemma", "gemma2", "gemma3_text", "mistral", "phi3", "qwen2", "qwen3", "smollm3"),
    "modernbert": ("modernbert-decoder",),
}


def family_of(hf: HfConfig) -> Family:
    """Returns the family of a config.json. Raises UserError for an unknown one."""
    supported = f"supported: {', '.join(sorted(FAMILIES))}"
    kind, classes = hf.get("model_type"), hf.get("architectures") or []
    if kind is None:
        for family in FAMILIES.values():
            if set(classes) & set(family.classes):
                return family
        unknown = f", and its architectures {classes} are not known" if classes else ""
        raise UserError(f"config.json lacks 'model_type'{unknown}; {supported}")
    if kind not in FAMILIES:
        near = [name for name, kinds in RELATIVES.items() if kind in kinds]
        hint = f"; the nearest of these is {near[0]}" if near else ""
        raise UserError(f"config.json: model_type {kind!r} is not supported; {supported}{hint}")
    return FAMILIES[kind]
