#!/usr/bin/env bash
# transformers 5.23.0 (tokenizers 0.23.3), tokenizer_class PreTrainedTokenizerFast: token types of a
# pair of texts are not given to the model unless tokenizer_config.json lists them in
# model_input_names, although the tokenizer.json says which segment is which. 4.57.1 gives them for
# the same folder. A BERT that was trained on pairs then sees both texts as its first segment.
# Expected: the same inputs from the same folder in both versions, or a warning.
# Matters to pair classifiers (entailment, paraphrase, next sentence, ranking) that were saved without
# the key: other scores, no message. return_token_type_ids=True, or the key, brings them back.
#
# Run: bash findings/transformers_token_types.sh    (installs into a temporary folder, no torch)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/inputs.py" <<'PYTHON'
import json
from pathlib import Path

import transformers
from transformers import AutoTokenizer

names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
vocab = {word: number for number, word in enumerate([*names, "a", "b"])}
flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)


def special(name, kind):
    return {"SpecialToken": {"id": name, "type_id": kind}}


def text(name, kind):
    return {"Sequence": {"id": name, "type_id": kind}}


template = dict(
    type="TemplateProcessing",
    single=[special("[CLS]", 0), text("A", 0), special("[SEP]", 0)],
    pair=[special("[CLS]", 0), text("A", 0), special("[SEP]", 0), text("B", 1), special("[SEP]", 1)],
    special_tokens={n: dict(id=n, ids=[vocab[n]], tokens=[n]) for n in ("[CLS]", "[SEP]")},
)
tokenizer = dict(
    version="1.0", truncation=None, padding=None, normalizer=None, decoder=None,
    added_tokens=[dict(id=i, content=n, **flags) for i, n in enumerate(names)],
    pre_tokenizer={"type": "WhitespaceSplit"}, post_processor=template,
    model=dict(type="WordLevel", vocab=vocab, unk_token="[UNK]"),
)  # fmt: skip
roles = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
folder = Path("checkpoint")
folder.mkdir(exist_ok=True)
(folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
(folder / "tokenizer.json").write_text(json.dumps(tokenizer))
settings = dict(tokenizer_class="PreTrainedTokenizerFast", **roles)
(folder / "tokenizer_config.json").write_text(json.dumps(settings))
loaded = AutoTokenizer.from_pretrained(folder)
inputs = dict(loaded("a", "b"))
print("transformers", transformers.__version__, json.dumps(inputs))
asked = loaded("a", "b", return_token_type_ids=True)["token_type_ids"]
assert inputs["input_ids"] == [2, 5, 3, 6, 3] and asked == [0, 0, 0, 1, 1]
old = transformers.__version__.startswith("4.")
assert ("token_type_ids" in inputs) == old, "the behaviour has changed"
PYTHON
for version in 4.57.1 5.23.0; do
    python3 -m venv "$folder/venv-$version"
    "$folder/venv-$version/bin/pip" install -q --disable-pip-version-check "transformers==$version" 2>/dev/null
    (cd "$folder" && HF_HUB_OFFLINE=1 "$folder/venv-$version/bin/python" inputs.py 2>/dev/null)
done
echo "as described above: 5.23.0 leaves token_type_ids out, 4.57.1 does not"
