"""Makes tests/generation/golden.npz: what transformers does with random logits, and the beam
searches of its GPT-2 with the random weights of tests/convert/golden, embeddings rescaled. It needs
torch and transformers, which nothing else here does:

    python3 -m venv /tmp/reference
    /tmp/reference/bin/pip install torch==2.13.0 transformers==5.23.0
    /tmp/reference/bin/python -m tests.generation.make_golden tests/generation/golden.npz

`logits`, `tokens` (what each row has seen), and for each row of PROCESSED its `processed_N`, the
logits after transformers' processors in the order in which its `generate` runs them.
`prompts` (lengths in `prompt_lengths`), and for each row of `searches` (prompt, beams, end-of-text
token, length penalty, repetition penalty) the new tokens in `found`, -1 behind them.
"""

import sys

import numpy as np
import torch
import transformers

MODEL = "tests/convert/golden/GPT2LMHeadModel"
# repetition penalty, temperature, top-k, top-p, min-p, each alone and together
PROCESSED = np.array([
    (1.3, 1.0, 0, 1.0, 0.0),
    (0.7, 1.0, 0, 1.0, 0.0),
    (1.0, 0.6, 0, 1.0, 0.0),
    (1.0, 1.0, 5, 1.0, 0.0),
    (1.0, 1.0, 0, 0.8, 0.0),
    (1.0, 1.0, 0, 1.0, 0.1),
    (1.0, 1.0, 0, 1.0, 1.0),
    (1.2, 1.7, 20, 0.9, 0.05),
    (1.2, 2.5, 40, 0.7, 0.2),
    (1.5, 0.5, 0, 0.95, 0.02),
])  # fmt: skip
NEW = 12
NONE = 99  # no token has this id
# Else one token wins nearly always: the embeddings of tokens brought to one length, those of
# positions drawn out. test_parity.py does the same.
TOKEN_LENGTH, POSITION_FACTOR = 2.0, 10.0


def processed(model, logits: torch.Tensor, tokens: torch.Tensor) -> dict[str, np.ndarray]:
    made = {}
    for i, (penalty, temperature, top_k, top_p, min_p) in enumerate(PROCESSED):
        config = transformers.GenerationConfig(
            do_sample=True, repetition_penalty=float(penalty), temperature=float(temperature),
            top_k=int(top_k), top_p=float(top_p), min_p=float(min_p) or None,
            pad_token_id=0, eos_token_id=1, bos_token_id=1,
        )  # fmt: skip
        model._prepare_special_tokens(config)
        steps = model._get_logits_processor(config, tokens.shape[1], tokens, device="cpu")
        print(i, [type(step).__name__ for step in steps])
        made[f"processed_{i}"] = steps(tokens, logits.clone()).numpy()
    return made


def searches(model, draw: np.random.Generator) -> dict[str, np.ndarray]:
    lengths = np.array([3, 1, 10, 6, 8, 5])
    prompts = np.where(np.arange(10) < lengths[:, None], draw.integers(2, 41, (6, 10)), 0)
    prompts[:, 0] = 1
    settings, found = [], []
    for row, prompt in enumerate(prompts):
        ids = torch.tensor(prompt[None, : lengths[row]])

        def search(beams, ends, length=1.0, repetition=1.0, ids=ids):
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False,
                max_new_tokens=NEW, early_stopping=True, length_penalty=length,
                repetition_penalty=repetition, eos_token_id=ends, pad_token_id=0,
            )[0, ids.shape[1] :].tolist()  # fmt: skip
            return made[: next((i for i, token in enumerate(made) if token in ends), NEW)]

        # What greedy decoding comes to ends a text: so some hypotheses end early and others do not.
        free = search(4, [NONE], repetition=1.5)
        for ends in ([1, NONE], [free[4], NONE], [free[8], NONE], [free[4], free[8]]):
            for beams, length, repetition in (
                (1, 1.0, 1.0), (2, 1.0, 1.0), (3, 0.0, 1.0), (4, 2.0, 1.0), (5, -1.0, 1.0),
                (4, 1.0, 1.3), (3, 0.5, 1.1),
            ):  # fmt: skip
                made = search(beams, ends, length, repetition)
                settings.append((row, beams, *ends, length, repetition))
                found.append(made + [-1] * (NEW - len(made)))
    return {
        "prompts": prompts,
        "prompt_lengths": lengths,
        "searches": np.array(settings),
        "found": np.array(found),
    }


def main(path: str) -> None:
    transformers.logging.set_verbosity_error()
    draw = np.random.default_rng(0)
    model = transformers.GPT2LMHeadModel.from_pretrained(MODEL).eval()
    table = model.transformer.wte.weight.data
    table *= TOKEN_LENGTH / table.norm(dim=1, keepdim=True)
    model.transformer.wpe.weight.data *= POSITION_FACTOR
    logits = draw.normal(0, 3, (6, 97)).astype(np.float32)
    tokens = draw.integers(0, 97, (6, 12))
    made = {"settings": PROCESSED, "logits": logits, "tokens": tokens}
    with torch.no_grad():
        made |= processed(model, torch.tensor(logits), torch.tensor(tokens))
        made |= searches(model, draw)
    np.savez_compressed(path, **made)


if __name__ == "__main__":
    main(sys.argv[1])
