"""`launch.py generate`."""

import sys

from research.commands.numbers import number, whole
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.generation import decode, samplers
from research.generation.samplers import Sampling
from research.training.inference import Loaded, load_model, require_head


def run(
    checkpoint: str,
    prompt: str,
    max_tokens: str = "64",
    temperature: str = "0.8",
    top_k: str = "0",
    top_p: str = "1.0",
    seed: str = "0",
    samples: str = "1",
) -> int:
    """Prints `samples` texts that go on from the prompt, and how fast they came."""
    limit, count = whole("max_tokens", max_tokens), whole("samples", samples)
    sampling = Sampling(
        temperature=number("temperature", temperature),
        top_k=whole("top_k", top_k, least=0),
        top_p=number("top_p", top_p),
        seed=whole("seed", seed, least=0),
    )
    samplers.check(sampling)
    loaded = require_head(load_model(checkpoint), checkpoint)
    require_generative(loaded, checkpoint)
    tokenizer = loaded.tokenizer
    tokens = decode.encode_prompt(tokenizer, prompt)
    _warn(loaded, len(tokens) + limit)

    def generate(new: int) -> decode.Generated:
        return decode.generate(
            loaded.params,
            loaded.model,
            [tokens] * count,
            eos=tokenizer.require("eos", "generation ends with it"),
            max_tokens=new,
            sampling=sampling,
            allowed=decode.allowed_tokens(tokenizer),
            room=limit,
        )

    generate(1)  # compiles the program, so that the figures are those of decoding
    first, made = generate(1), generate(limit)
    for index, new in enumerate(made.tokens):
        if count > 1:
            print(f"--- {index + 1} of {count}")
        print(prompt + decode.decode_continuation(tokenizer, tokens, new))
    size = sum(map(len, made.tokens))
    print(
        f"{size:,} tokens in {made.seconds:.2f} s: {made.tokens_per_second:,.0f} tokens/s, the "
        f"first after {first.seconds * 1000:,.0f} ms",
        file=sys.stderr,
    )
    return 0


def require_generative(loaded: Loaded, checkpoint: str) -> None:
    """Raises UserError for a model not trained to continue text, with what it can do."""
    config, task = loaded.config, loaded.task
    if (task and task.prompt) or (config.objective and config.objective.causal_lm):
        return
    names = " and ".join(o.name for o in loaded.objectives)
    raise UserError(
        f"{checkpoint} was trained for {names}; it does not continue text. "
        f"{_instead(loaded, checkpoint)}"
    )


def _instead(loaded: Loaded, checkpoint: str) -> str:
    predict = f"python launch.py predict --checkpoint={checkpoint}"
    if loaded.task is not None:
        return f"`{predict} …` shows what it makes of an example"
    goal, mask = loaded.config.objective, _mask(loaded.tokenizer)
    lines = []
    if goal.masked_lm:
        lines.append(f'`{predict} --text="… {mask} …"` shows the best fillings of {mask}')
    if goal.next_sentence:
        lines.append(
            f'`{predict} --text_a="…" --text_b="…"` shows how probably B is the next sentence'
        )
    return "; ".join(lines)


def _mask(tokenizer: Tokenizer) -> str:
    return "[MASK]" if tokenizer.mask is None else tokenizer.token(tokenizer.mask)


def _warn(loaded: Loaded, length: int) -> None:
    trained = loaded.config.data.length
    if loaded.model.positions == "learned" and trained < length <= loaded.model.max_positions:
        print(
            f"warning: prompt and new tokens are up to {length}, the model was trained on rows "
            f"of {trained}; what comes after is not to be trusted",
            file=sys.stderr,
        )
