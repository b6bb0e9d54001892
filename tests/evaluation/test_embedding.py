"""A text's vector does not depend on what shares its row; vectors are written with ids."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from research import cli
from research.convert import importer
from research.data.batch import framed
from research.errors import UserError
from research.evaluation import embedding
from research.evaluation.embedding import Recipe
from research.models import transformer
from research.run.loaded import load_model
from tests.convert.test_parity import GOLDEN

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w1 w2", "w3 w3"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding")
    for name in ("BertModel", "GPT2Model"):
        importer.save(importer.read(str(GOLDEN / name)), str(folder / name))
    return folder


def alone(loaded, text, pattern):
    """Hidden states of one text in a row of its own."""
    segment = framed(loaded.tokenizer, [loaded.tokenizer.encode(text).ids], 32)
    tokens = jnp.asarray(segment.tokens)[None]
    batch = {
        "tokens": tokens,
        "segments": jnp.ones_like(tokens),
        "positions": jnp.arange(tokens.shape[1])[None],
        "token_types": jnp.asarray(segment.types)[None],
    }
    hidden = transformer.apply(loaded.params["backbone"], loaded.model, batch, pattern)
    return np.asarray(hidden[0])


@pytest.mark.parametrize(("name", "pattern"), [("BertModel", "full"), ("GPT2Model", "causal")])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_vector_is_that_of_the_text_alone(checkpoints, name, pattern, pooling):
    loaded = load_model(str(checkpoints / name))
    found = embedding.embed(loaded, [{"id": "", "text": t} for t in TEXTS], Recipe(pooling))
    assert found.shape == (4, 16) and found.dtype == np.float32
    for vector, text in zip(found, TEXTS, strict=True):
        hidden = alone(loaded, text, pattern)
        expected = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_the_pooler_and_its_absence(checkpoints):
    loaded = load_model(str(checkpoints / "BertModel"))
    found = embedding.embed(loaded, [{"id": "", "text": "w1"}], Recipe("pooler"))
    assert np.abs(found).max() <= 1.0
    with pytest.raises(UserError, match="has no pooler"):
        embedding.embed(load_model(str(checkpoints / "GPT2Model")), [], Recipe("pooler"))
    with pytest.raises(UserError, match="did you mean 'mean'"):
        embedding.embed(loaded, [], Recipe("meen"))


def test_the_command(checkpoints, tmp_path, capsys):
    rows = [{"id": f"t{i}", "text": text} for i, text in enumerate(TEXTS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    common = [f"--checkpoint={checkpoints}/BertModel", f"--input={tmp_path}/in.jsonl"]
    assert cli.main(["embed", *common, f"--output={tmp_path}/out.npz", "--normalize"]) == 0
    made = np.load(tmp_path / "out.npz")
    assert list(made["ids"]) == ["t0", "t1", "t2", "t3"]
    np.testing.assert_allclose(np.linalg.norm(made["vectors"], axis=1), 1.0, rtol=1e-5)
    assert cli.main(["embed", *common, f"--output={tmp_path}/out.jsonl"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [line["id"] for line in lines] == ["t0", "t1", "t2", "t3"]
    (tmp_path / "in.tsv").write_text("text\tid\n" + "".join(f"{t}\t{t}\n" for t in TEXTS))
    table = [common[0], f"--input={tmp_path}/in.tsv", f"--output={tmp_path}/table.jsonl"]
    assert cli.main(["embed", *table]) == 0
    others = [json.loads(line) for line in (tmp_path / "table.jsonl").open()]
    assert [line["vector"] for line in others] == [line["vector"] for line in lines]
    vector = np.array(lines[2]["vector"])
    np.testing.assert_allclose(vector / np.linalg.norm(vector), made["vectors"][2], atol=1e-6)
    assert cli.main(["embed", *common, f"--output={tmp_path}/out.txt"]) == 2
    (tmp_path / "bad.jsonl").write_text('{"id": "a"}\n')
    bad = [common[0], f"--input={tmp_path}/bad.jsonl", f"--output={tmp_path}/out.npz"]
    assert cli.main(["embed", *bad]) == 2
    assert "line 1" in capsys.readouterr().err
