"""The reference itself, in an environment of its own: new random weights, and what we export.

`make reference-setup` makes the environment, `make test-long` uses it.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from research.convert import exporter, importer
from research.data.batch import framed
from research.run.loaded import load_model
from tests.convert.test_parity import CLASSES, GOLDEN, compared
from tests.convert.test_tokenizer_folders import TABLE, write

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / os.environ.get("REFERENCE_VENV", ".venv-reference") / "bin" / "python"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="make reference-setup has not been run"),
]
LOADS = """
import json, sys, numpy as np, torch, transformers
for folder, name in zip(sys.argv[1::2], sys.argv[2::2]):
    kind = getattr(transformers, name.partition(".")[0])
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys")), (name, report)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for texts, ours in json.load(open(folder + ".ids")):
        if "MultipleChoice" in name:
            continue
        encoded = tokenizer(*texts, return_tensors="pt")
        assert encoded["input_ids"][0].tolist() == ours["tokens"], (name, texts, encoded)
        plain = {"input_ids": torch.tensor([ours["tokens"]])}
        if "token_type_ids" in encoded:
            assert encoded["token_type_ids"][0].tolist() == ours["types"], (name, texts)
            plain["token_type_ids"] = torch.tensor([ours["types"]])
        with torch.no_grad():
            said, expected = model.eval()(**encoded), model(**plain)
        torch.testing.assert_close(said[0], expected[0])
    arrays = np.load(sys.argv[1].rsplit("/", 2)[0] + "/golden/" + name + "/answers.npz")
    given = {k[3:]: torch.tensor(arrays[k]) for k in arrays if k.startswith("in_")}
    with torch.no_grad():
        found = model.eval()(**given)
    real = arrays["in_attention_mask"] > 0
    for key in arrays:
        if key.startswith("out_"):
            ours, theirs = found[key[4:]].numpy(), arrays[key]
            if real.ndim == 2 and theirs.shape[:2] == real.shape:
                # Outputs at padding depend on the kernel.
                ours, theirs = ours[real], theirs[real]
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name + key)
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What make_golden makes with another seed."""
    folder = tmp_path_factory.mktemp("live") / "golden"
    command = [str(PYTHON), "-m", "tests.convert.make_golden", str(folder), "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_other_random_weights(fresh, name):
    assert compared(fresh / name) >= 1


def frames(loaded):
    """Texts, and their tokens and types in our rows."""
    found = []
    for texts in (("w1 w2",), ("w1", "w2 w3")):
        parts = [loaded.tokenizer.encode(text).ids for text in texts]
        segment = framed(loaded.tokenizer, parts, 16)
        found.append((texts, {"tokens": segment.tokens.tolist(), "types": segment.types.tolist()}))
    return found


def test_the_reference_loads_what_is_exported_and_answers_the_same(fresh):
    exported = fresh.parent / "exported"
    arguments = []
    for name in CLASSES:
        ours = str(fresh.parent / "ours" / name)
        importer.save(importer.read(str(fresh / name)), ours)
        exporter.export(ours, str(exported / name))
        (exported / f"{name}.ids").write_text(json.dumps(frames(load_model(ours))))
        arguments += [str(exported / name), name]
    done = subprocess.run(
        [str(PYTHON), "-c", LOADS, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


IDS = """
import json, sys, transformers
for folder, texts, ids in json.load(sys.stdin):
    found = transformers.AutoTokenizer.from_pretrained(folder)(*texts)["input_ids"]
    assert found == ids, (folder, texts, found, ids)
"""


def test_the_reference_cuts_and_frames_texts_as_the_table_says(tmp_path):
    cases = []
    for number, (files, model_type, texts, ids) in enumerate(TABLE.values()):
        cases.append((str(write(tmp_path / str(number), files, model_type)), texts, ids))
    done = subprocess.run(
        [str(PYTHON), "-c", IDS], input=json.dumps(cases), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_seed_changes_the_weights(fresh):
    new, old = (np.load(p / "BertModel" / "answers.npz") for p in (fresh, GOLDEN))
    assert not np.allclose(new["out_last_hidden_state"], old["out_last_hidden_state"])
