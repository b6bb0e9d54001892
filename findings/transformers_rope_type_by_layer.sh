#!/usr/bin/env bash
# transformers 5.23.0: rope_scaling with the older key "type" ({"type": "linear", "factor": 8.0}) is
# followed by a model with one kind of layer (Llama: every frequency divided by 8), and not by models
# whose rotary table differs by layer (Gemma 3, ModernBERT): their config gets rope_type "default"
# beside the "type" that was written, and the model runs unscaled. A warning names the factor as an
# unrecognized key, not that nothing is scaled. With "rope_type" both kinds are scaled.
# Expected: the older key means the same in every family, or an error (4.57.1 raises a KeyError).
# Matters to long-context variants of these families: right on short texts, wrong beyond the length
# of the pre-training.
#
# Run: bash findings/transformers_rope_type_by_layer.sh  (installs into a temporary folder, no torch)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 2>/dev/null
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from transformers import Gemma3TextConfig, LlamaConfig, ModernBertConfig


def rope_types(config_class, key):
    """The rope_type of each kind of layer of a config whose rope_scaling has this key."""
    parameters = config_class(rope_scaling={key: "linear", "factor": 8.0}).rope_parameters
    kinds = parameters if "full_attention" in parameters else {"every layer": parameters}
    return {kind: values["rope_type"] for kind, values in kinds.items()}


for config_class in (LlamaConfig, Gemma3TextConfig, ModernBertConfig):
    for key in ("rope_type", "type"):
        print(f"{config_class.__name__:17} {key:9}", rope_types(config_class, key))
assert rope_types(LlamaConfig, "type") == {"every layer": "linear"}, "the behaviour has changed"
for config_class in (Gemma3TextConfig, ModernBertConfig):
    assert rope_types(config_class, "rope_type")["full_attention"] == "linear"
    assert rope_types(config_class, "type")["full_attention"] == "default", "the behaviour has changed"
PYTHON
echo "as described above: 'type' is followed by Llama only"
