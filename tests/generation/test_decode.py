"""Decoding with a cache is the full forward pass, whatever else is in the batch."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import cli, config
from research.errors import UserError
from research.generation import decode
from research.generation.samplers import Sampling
from research.models import heads, transformer
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives import make_objectives
from research.sharding import mesh as meshes
from research.sharding import rules
from research.sharding.mesh import MeshConfig
from research.training.checkpoint import write_checkpoint
from research.training.inference import load_model
from tests import helpers

SMALL = {"vocab_size": 50, "width": 16, "mlp_width": 32, "initializer_range": 0.4}
GPT = ModelConfig(**SMALL, layers=2, heads=2, max_positions=64)
LLAMA = ModelConfig(
    **SMALL,
    layers=2,
    heads=4,
    kv_heads=2,
    positions="rope",
    norm="rmsnorm",
    activation="silu",
    gated=True,
    bias=False,
    tied_embeddings=False,
)
POST = ModelConfig(
    **SMALL, layers=1, heads=2, max_positions=64, norm_place="post", embedding_norm=True,
    token_types=2,
)  # fmt: skip
FAMILIES = {"learned": GPT, "rope": dataclasses.replace(GPT, positions="rope"),
            "grouped": LLAMA, "post": POST}  # fmt: skip
EOS = 1
GREEDY = Sampling(temperature=0.0)
SAMPLED = Sampling(temperature=1.3, top_k=30, top_p=0.95, seed=5)
PROMPTS = [[1, 7, 9], [1, 4], [1, 30, 31, 32, 33, 34, 35, 36, 37, 38], [1, 2, 3, 5, 8, 13]]


def new_params(model: ModelConfig) -> Any:
    head = {} if model.tied_embeddings else {"causal_lm": heads.OutputTable(model)}
    return jax.jit(lambda key: parameters.init(key, model, head))(jax.random.key(0))


def full_logits(params: Any, model: ModelConfig, tokens: list[int]) -> np.ndarray:
    """[L, V], by the forward pass of training."""
    row = jnp.asarray([tokens])
    batch = {
        "tokens": row,
        "slots": jnp.ones_like(row),
        "positions": jnp.arange(len(tokens))[None],
        "token_types": jnp.zeros_like(row),
    }
    hidden = transformer.apply(params["backbone"], model, batch, "causal")
    table = heads.output_table(params, model, "causal_lm")
    return np.asarray(heads.vocabulary_logits(hidden, table, None, model.vocab_size)[0])


def generate(params: Any, model: ModelConfig, prompts: Any = PROMPTS, **changes: Any):
    given = {"eos": EOS, "max_tokens": 9, "sampling": GREEDY} | changes
    return decode.generate(params, model, prompts, **given)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_logits_are_those_of_the_full_pass(family):
    model = FAMILIES[family]
    params = new_params(model)
    rows = [list(np.random.default_rng(n).integers(0, 50, 14)) for n in range(3)]
    lengths, width = np.array([3, 8, 5]), 8
    prompt = np.stack([np.pad(r[:n], (0, width - n)) for r, n in zip(rows, lengths, strict=True)])
    table = heads.output_table(params, model, "causal_lm")

    @jax.jit(static_argnames="visible")
    def step(tokens, positions, cache, visible):
        x = transformer.embed(params["backbone"], model, tokens, positions, jnp.zeros_like(tokens))
        hidden, cache = transformer.encode_cached(
            params["backbone"], model, x, positions, cache, visible
        )
        return heads.vocabulary_logits(hidden, table, None, model.vocab_size), cache

    expected = [full_logits(params, model, row) for row in rows]
    cache = transformer.empty_cache(model, 3, 14)
    at = np.broadcast_to(np.arange(width), prompt.shape)
    logits, cache = step(prompt, at, cache, visible=width)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], expected[row][:length], atol=1e-4)
    for more in range(6):  # each row goes on at its own position, over what the padding left
        at = lengths + more
        tokens = np.array([[row[n]] for row, n in zip(rows, at, strict=True)])
        logits, cache = step(tokens, at[:, None], cache, visible=14)
        for row, position in enumerate(at):
            np.testing.assert_allclose(logits[row, 0], expected[row][position], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_takes_the_most_probable_token_of_the_full_pass(family):
    model = FAMILIES[family]
    params = new_params(model)
    made = generate(params, model, [PROMPTS[0]], max_tokens=6, eos=0, allowed=np.arange(50) > 0)
    known = list(PROMPTS[0])
    for _ in range(6):
        known.append(1 + int(np.argmax(full_logits(params, model, known)[-1, 1:])))
    assert made.tokens == [known[3:]]
    assert made.ended == [False]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["learned", "grouped"])
def test_a_batch_is_each_prompt_alone(model, sampling):
    params, ids = new_params(model), [11, 12, 13, 14]
    together = generate(params, model, sampling=sampling, ids=ids)
    assert len({tuple(t) for t in together.tokens}) == 4
    for i, prompt in enumerate(PROMPTS):
        alone = generate(params, model, [prompt], sampling=sampling, ids=[ids[i]])
        assert alone.tokens == [together.tokens[i]]
        assert alone.ended == [together.ended[i]]
    split = generate(params, model, PROMPTS[::-1], sampling=sampling, ids=ids[::-1], rows=3)
    assert split.tokens == together.tokens[::-1]


def test_draws_depend_on_seed_and_id():
    params = new_params(GPT)
    kinds = [
        generate(params, GPT, [[1, 7]] * 2, sampling=SAMPLED, ids=[3, 4]),
        generate(params, GPT, [[1, 7]], sampling=SAMPLED, ids=[3]),
        generate(params, GPT, [[1, 7]], sampling=dataclasses.replace(SAMPLED, seed=6), ids=[3]),
    ]
    (first, second), (again,), (other,) = (k.tokens for k in kinds)
    assert first == again
    assert first != second and first != other


def test_one_program_for_a_bucket():
    params = new_params(dataclasses.replace(GPT, mlp_width=24))
    model = dataclasses.replace(GPT, mlp_width=24)

    def programs() -> int:
        return decode._decode._cache_size()

    before = programs()
    warm = Sampling(temperature=0.7, seed=1)
    generate(params, model, PROMPTS[:3], sampling=warm, max_tokens=5)
    assert programs() == before + 1
    generate(params, model, PROMPTS, sampling=dataclasses.replace(warm, temperature=2.0, seed=9))
    generate(params, model, PROMPTS, sampling=warm, max_tokens=16, eos=2)
    generate(params, model, PROMPTS, sampling=warm, max_tokens=1, room=16)
    assert programs() == before + 1
    generate(params, model, PROMPTS, sampling=warm, max_tokens=17)
    assert programs() == before + 2


def test_stops_at_the_end_of_text():
    params = new_params(GPT)
    free = generate(params, GPT, [PROMPTS[0]], eos=49).tokens[0]
    stop = free[4]
    made = generate(params, GPT, PROMPTS[:2], eos=stop)
    assert made.tokens[0] == free[: free.index(stop)]
    assert made.ended[0]
    rest = generate(params, GPT, [PROMPTS[1]], eos=49).tokens[0]
    assert made.tokens[1] == (rest[: rest.index(stop)] if stop in rest else rest)


def test_only_allowed_tokens_are_produced():
    params = new_params(GPT)
    allowed = np.zeros(40, bool)  # shorter than the vocabulary: the rest is not allowed
    allowed[[3, 17, 39]] = True
    hot = Sampling(temperature=1e6, seed=2)
    made = generate(params, GPT, PROMPTS, sampling=hot, allowed=allowed, max_tokens=16)
    assert {t for row in made.tokens for t in row} == {3, 17, 39}
    everything = generate(params, GPT, PROMPTS * 4, sampling=hot, max_tokens=32)
    seen = {t for row in everything.tokens for t in row}
    assert max(seen) < GPT.vocab_size < GPT.padded_vocab and len(seen) > 40


def test_the_last_position_can_be_used():
    model = dataclasses.replace(GPT, max_positions=21)  # no power of two
    params = new_params(model)
    whole = generate(params, model, [PROMPTS[0]], max_tokens=18, eos=49).tokens[0]
    part = generate(params, model, [PROMPTS[0] + whole[:17]], max_tokens=1, eos=49).tokens[0]
    assert len(whole) == 18 and part == whole[17:]


def test_no_prompts_no_texts():
    assert generate(new_params(GPT), GPT, []).tokens == []


def test_on_a_mesh_as_on_one_device():
    params = new_params(GPT)
    expected = [generate(params, GPT, sampling=s) for s in (GREEDY, SAMPLED)]
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placed = rules.shardings(parameters.logical_axes(GPT, {}), parameters.shapes(GPT, {}), mesh)
    params = jax.device_put(params, placed)
    for known, sampling in zip(expected, (GREEDY, SAMPLED), strict=True):
        assert generate(params, GPT, sampling=sampling).tokens == known.tokens


def test_errors_come_before_anything_runs():
    with pytest.raises(UserError, match=r"10 prompt tokens.* 60 new tokens.* 64 positions.* 54"):
        generate(None, GPT, max_tokens=60)
    with pytest.raises(UserError, match="70 prompt tokens.*shorten the prompt"):
        generate(None, GPT, [[1] * 70])
    with pytest.raises(UserError, match="max_tokens=0"):
        generate(None, GPT, max_tokens=0)
    with pytest.raises(UserError, match="top_p=2"):
        generate(None, GPT, sampling=Sampling(top_p=2.0))
    with pytest.raises(ValueError, match="at least one token"):
        generate(None, GPT, [[]])
    with pytest.raises(ValueError, match="1 ids for 4 prompts"):
        generate(None, GPT, ids=[1])


def test_texts_go_on_from_an_end_of_text_token():
    model, tokenizer = helpers.gpt(), helpers.byte_pairs()
    params = new_params(model)
    texts = ["naïve text", "", "two  words "]
    options = {"max_tokens": 8, "sampling": GREEDY}
    made = decode.continue_texts(params, model, tokenizer, texts, **options)
    for text, new in zip(texts, made, strict=True):
        prompt = [tokenizer.eos, *tokenizer.encode(text).ids.tolist()]
        allowed = decode.allowed_tokens(tokenizer)
        tokens = generate(
            params, model, [prompt], eos=tokenizer.eos, max_tokens=8, allowed=allowed
        ).tokens[0]
        assert new == tokenizer.decode(tokens) and not set(tokens) & tokenizer.special_ids


def test_special_tokens_may_be_allowed_and_end_of_text_always_is():
    tokenizer = helpers.byte_pairs()
    assert decode.allowed_tokens(tokenizer)[[tokenizer.pad, tokenizer.eos]].tolist() == [
        False,
        True,
    ]
    assert decode.allowed_tokens(tokenizer, special=True).all()


def test_a_continuation_keeps_the_space_before_it():
    tokenizer = helpers.word_pieces()
    first, second = (tokenizer.encode(word).ids.tolist() for word in helpers.words()[:2])
    text = decode.decode_continuation(tokenizer, first, second)
    assert text == f" {helpers.words()[1]}"


def make_checkpoint(kind: str, folder: Path) -> str:
    """A checkpoint with random weights, as a run of that kind writes it."""
    tokenizer = helpers.byte_pairs() if kind == "gpt" else helpers.word_pieces()
    made = helpers.run_config(kind, folder, steps=1)
    model = dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    made = dataclasses.replace(made, model=model)
    params = helpers.new_params(model, make_objectives(made.objective, model))
    values = config.to_values(made)
    write_checkpoint(str(folder / kind), 3, params, values, tokenizer.to_json(), {"metrics": {}})
    return str(folder / kind)


def test_the_verb_prints_continuations_and_speed(tmp_path, capsys):
    path = make_checkpoint("gpt", tmp_path)
    prompt = helpers.words()[3]
    flags = [f"--checkpoint={path}", f"--prompt={prompt}", "--max_tokens=12", "--seed=4"]
    assert cli.main(["generate", *flags, "--samples=2"]) == 0
    out, err = capsys.readouterr()
    texts = [part.split("\n", 1)[1] for part in out.split("--- ")[1:]]
    assert len(texts) == 2 and texts[0] != texts[1]
    assert all(text.startswith(prompt) for text in texts)
    assert "tokens/s" in err
    loaded = load_model(path)
    expected = decode.continue_texts(
        loaded.params, loaded.model, loaded.tokenizer, [prompt], max_tokens=12,
        sampling=Sampling(temperature=0.8, seed=4),
    )  # fmt: skip
    assert texts[0] == f"{prompt}{expected[0]}\n"


def test_an_encoder_is_refused_with_what_it_can_do(tmp_path, capsys):
    path = make_checkpoint("bert", tmp_path)
    assert cli.main(["generate", f"--checkpoint={path}", "--prompt=a"]) == 2
    err = capsys.readouterr().err
    assert "masked_lm and next_sentence" in err and "does not continue text" in err
    assert "predict" in err and "[MASK]" in err and "--text_b" in err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--max_tokens=many", "--max_tokens=many must be a whole number from 1"),
        ("--samples=0", "--samples=0 must be a whole number from 1"),
        ("--temperature=warm", "--temperature=warm must be a number"),
        ("--top_p=1.5", "top_p=1.5 must be above 0"),
        ("--seed=-1", "--seed=-1 must be a whole number from 0"),
        ("--top_k=3", "no checkpoint in"),
    ],
)
def test_a_wrong_flag_is_named(flag, said, tmp_path, capsys):
    assert cli.main(["generate", f"--checkpoint={tmp_path}", "--prompt=a", flag]) == 2
    assert said in capsys.readouterr().err
