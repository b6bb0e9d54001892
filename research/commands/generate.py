"""`launch.py generate`."""

import sys
from collections.abc import Sequence

from research.commands import standard_input
from research.errors import UserError
from research.evaluation import predictor
from research.generation import beams as searching
from research.generation import decode, samplers, stopping
from research.generation.beams import Beams
from research.generation.samplers import Sampling
from research.objectives.objective import continues_with
from research.run.loaded import Loaded, load_model, require_head
from research.verbs import number, whole

TEMPERATURE = 0.8  # where none is given; a beam search has none
TYPED = 4  # tokens between two pieces of text on a terminal


def run(
    checkpoint: str,
    prompt: str,
    max_tokens: str = "64",
    temperature: str | None = None,
    top_k: str = "0",
    top_p: str = "1.0",
    min_p: str = "0",
    repetition_penalty: str = "1",
    seed: str = "0",
    samples: str = "1",
    beams: str = "1",
    length_penalty: str | None = None,
    stop: Sequence[str] = (),
) -> int:
    """Prints `samples` texts that go on from the prompt, and how fast they came.

    One text that a terminal shows appears while it is made.
    """
    limit, count = whole("max_tokens", max_tokens), whole("samples", samples)
    search = _beams(beams, length_penalty, count)
    cold = 0.0 if search else TEMPERATURE
    sampling = Sampling(
        temperature=cold if temperature is None else number("temperature", temperature),
        top_k=whole("top_k", top_k, least=0),
        top_p=number("top_p", top_p),
        min_p=number("min_p", min_p),
        repetition_penalty=number("repetition_penalty", repetition_penalty),
        seed=whole("seed", seed, least=0),
    )
    samplers.check(sampling)
    if search:
        searching.check(search, sampling)
    end = [stopping.unescape(text) for text in stop]
    prompt = standard_input.texts({"prompt": prompt})["prompt"]
    loaded = require_head(load_model(checkpoint), checkpoint)
    require_generative(loaded, checkpoint)
    tokenizer = loaded.tokenizer
    chat = loaded.task is not None and loaded.task.kind == "chat"
    asked = loaded.task.prompt({"text": prompt}) if chat else prompt
    tokens = decode.encode_prompt(tokenizer, asked)
    _warn(loaded, len(tokens) + limit)

    def generate(new: int, watch: decode.Watch | None = None) -> decode.Generated:
        return decode.generate(
            loaded.params,
            loaded.model,
            [tokens] * count,
            ends=tokenizer.ends,
            max_tokens=new,
            sampling=sampling,
            beams=search,
            pattern=continues_with(loaded.objectives),
            allowed=decode.allowed_tokens(tokenizer),
            room=limit,
            watch=watch,
            every=TYPED if typed else decode.EVERY,
        )

    def text(new: list[int]) -> str:
        said = decode.decode_continuation(tokenizer, tokens, new)
        return said.lstrip() if chat else said

    shown = f"{prompt}\n" if chat else prompt  # what the answer is printed behind

    typed = sys.stdout.isatty() and count == 1 and search is None
    generate(1)  # compiles the program, so that the figures are those of decoding
    first = generate(1)
    ends = decode.stopping_watch(tokenizer, [tokens] * count, end) if end else None
    if typed:
        stream = stopping.Stream(_type, end)
        _type(shown)

        def watch(row: int, new: list[int]) -> bool:
            stream.update(text(new))
            return ends is not None and ends(row, new)

        made = generate(limit, watch)
        stream.finish(text(made.tokens[0]))
        print()
    else:
        made = generate(limit, None if search else ends)
        for index, new in enumerate(made.tokens):
            if count > 1:
                print(f"--- {index + 1} of {count}")
            print(shown + stopping.cut(text(new), end))
    size = sum(map(len, made.tokens))
    print(
        f"{size:,} tokens in {made.seconds:.2f} s: {made.tokens_per_second:,.0f} tokens/s, the "
        f"first after {first.seconds * 1000:,.0f} ms",
        file=sys.stderr,
    )
    return 0


def _beams(beams: str, length_penalty: str | None, samples: int) -> Beams | None:
    """None for one beam: that is greedy or drawn, as the other flags say."""
    count = whole("beams", beams)
    if count == 1:
        if length_penalty is not None:
            raise UserError(
                f"--length_penalty={length_penalty} compares the texts of a beam search; "
                "give --beams=4 with it, or leave it out"
            )
        return None
    if samples > 1:
        raise UserError(
            f"--beams={count} finds one text, so --samples={samples} would print it {samples} "
            "times; leave one of them out"
        )
    return Beams(count, number("length_penalty", length_penalty or "1"))


def _type(text: str) -> None:
    print(text, end="", flush=True)


def require_generative(loaded: Loaded, checkpoint: str) -> None:
    """Raises UserError for a model not trained to continue text, with what it can do."""
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
        return f"`{predict} …` shows what it makes of an example"
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
            f"of {trained}; what comes after is not to be trusted",
            file=sys.stderr,
        )
