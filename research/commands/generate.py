"""`launch.py generate`."""

import sys
from typing import Any

from research.commands import standard_input
from research.errors import UserError
from research.evaluation import predictor
from research.generation import decode, stopping
from research.generation import decoding as decodings
from research.generation.decoding import DecodingConfig
from research.objectives.objective import continues_with
from research.run.loaded import Loaded, load_model, require_head

TEMPERATURE = 0.8  # the default without beams
TYPED = 4  # tokens between two updates of a terminal


def run(checkpoint: str, prompt: str, max_tokens: int = 64, samples: int = 1, **knobs: Any) -> int:
    """Prints `samples` continuations of the prompt, and the speed of decoding.

    On a terminal a single sampled text is streamed.

    Args:
        knobs: fields of `DecodingConfig`.
    """
    knobs["stop"] = tuple(map(stopping.unescape, knobs.get("stop", ())))
    cold = 0.0 if knobs.get("beams", 1) > 1 else TEMPERATURE
    decoding = DecodingConfig(**{"temperature": cold} | knobs)
    decodings.check(decoding, "generate")
    if decoding.searches and samples > 1:
        raise UserError(
            f"--beams={decoding.beams} finds one text, so --samples={samples} would print it "
            f"{samples} times; leave one of them out"
        )
    if "length_penalty" in knobs and not decoding.searches:
        raise UserError(
            f"--length_penalty={decoding.length_penalty:g} compares the texts of a beam search; "
            "give --beams=4 with it, or leave it out"
        )
    prompt = standard_input.texts({"prompt": prompt})["prompt"]
    loaded = require_head(load_model(checkpoint), checkpoint)
    require_generative(loaded, checkpoint)
    tokenizer = loaded.tokenizer
    chat = loaded.task is not None and loaded.task.kind == "chat"
    request = loaded.task.prompt({"text": prompt}) if chat else prompt
    tokens = decode.encode_prompt(tokenizer, request)
    _warn(loaded, len(tokens) + max_tokens)

    def generate(new: int, watch: decode.Watch | None = None) -> decode.Generated:
        return decode.generate(
            loaded.params,
            loaded.model,
            [tokens] * samples,
            ends=tokenizer.ends,
            max_tokens=new,
            decoding=decoding,
            pattern=continues_with(loaded.objectives),
            allowed=decode.allowed_tokens(tokenizer),
            room=max_tokens,
            watch=watch,
            every=TYPED if typed else decode.EVERY,
        )

    def text(new: list[int]) -> str:
        continuation = decode.decode_continuation(tokenizer, tokens, new)
        return continuation.lstrip() if chat else continuation

    shown = f"{prompt}\n" if chat else prompt  # printed before the answer

    typed = sys.stdout.isatty() and samples == 1 and not decoding.searches
    generate(1)  # compiles, so that the times below are of decoding alone
    first = generate(1)
    end = decoding.stop
    ends = decode.stopping_watch(tokenizer, [tokens] * samples, end) if end else None
    if typed:
        stream = stopping.Stream(_type, end)
        _type(shown)

        def watch(row: int, new: list[int]) -> bool:
            stream.update(text(new))
            return ends is not None and ends(row, new)

        generated = generate(max_tokens, watch)
        stream.finish(text(generated.tokens[0]))
        print()
    else:
        generated = generate(max_tokens, None if decoding.searches else ends)
        for index, new in enumerate(generated.tokens):
            if samples > 1:
                print(f"--- {index + 1} of {samples}")
            print(shown + stopping.cut(text(new), end))
    size, speed = sum(map(len, generated.tokens)), generated.tokens_per_second
    print(
        f"{size:,} tokens in {generated.seconds:.2f} s: {speed:,.0f} tokens/s, the first after "
        f"{first.seconds * 1000:,.0f} ms",
        file=sys.stderr,
    )
    return 0


def _type(text: str) -> None:
    print(text, end="", flush=True)


def require_generative(loaded: Loaded, checkpoint: str) -> None:
    """Raises UserError if the model was not trained to continue text, and says what it can do."""
    if predictor.generates(loaded):
        return
    names = " and ".join(o.name for o in loaded.objectives)
    raise UserError(
        f"{checkpoint} was trained for {names}; it does not continue text. "
        f"{_instead(loaded, checkpoint)}"
    )


def _instead(loaded: Loaded, checkpoint: str) -> str:
    predict = f"python launch.py predict --checkpoint={checkpoint}"
    if loaded.task is not None:
        return f"`{predict} …` shows its prediction for an example"
    lines = []
    for objective in loaded.objectives:
        flags = " ".join(f'--{field}="{objective.placeholder}"' for field in objective.asks)
        lines += [f"`{predict} {flags}` shows {objective.gives}"] if flags else []
    return "; ".join(lines)


def _warn(loaded: Loaded, length: int) -> None:
    trained = loaded.config.data.length
    if loaded.model.positions == "learned" and trained < length <= loaded.model.max_positions:
        print(
            f"warning: prompt and new tokens are up to {length}, the model was trained on rows "
            f"of {trained}; do not trust the text after that",
            file=sys.stderr,
        )
