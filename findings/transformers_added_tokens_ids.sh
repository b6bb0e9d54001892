#!/usr/bin/env bash
# transformers 5.23.0 (tokenizers 0.23.3), a folder with vocab.txt and added_tokens.json: the ids that
# added_tokens.json states are not kept. A vocabulary of 7 entries with {"@user": 10, "@url": 11}
# (ids with a gap, as a checkpoint has whose embedding was padded before tokens were added) gives
# "@user" the id 7 and "@url" the id 8, the next free ones, without a warning.
# Expected: the stated ids 10 and 11, or an error.
# Matters to whoever loads such a checkpoint: the texts look up other rows of the embedding, and the
# predictions are wrong with no sign of it.
#
# Run: bash findings/transformers_added_tokens_ids.sh    (installs into a temporary folder, no torch)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 2>/dev/null
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
import warnings
from pathlib import Path

import transformers
from transformers import AutoTokenizer

STATED = {"@user": 10, "@url": 11}
names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great", "film"]
folder = Path("checkpoint")
folder.mkdir()
(folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
(folder / "vocab.txt").write_text("\n".join(names) + "\n")
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
(folder / "added_tokens.json").write_text(json.dumps(STATED))

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    tokenizer = AutoTokenizer.from_pretrained(folder)
ids = dict(zip(STATED, tokenizer.convert_tokens_to_ids(list(STATED)), strict=True))
print("transformers", transformers.__version__)
print("stated", STATED, "loaded", ids)
print("'great @user @url' ->", tokenizer("great @user @url").input_ids)
assert ids == {"@user": 7, "@url": 8}, f"the behaviour has changed: {ids}"
assert not [w for w in told if "added" in str(w.message)], "there is a warning now"
print("as described above")
PYTHON
