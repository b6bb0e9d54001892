"""The most probable tokens at a place, as arrays of the device and as they are shown."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from research.data.tokenizer import Tokenizer

TOP = 5


def top(probabilities: Float[Array, "... V"]) -> dict[str, Array]:
    """ "probability" and "token" of the TOP best, [..., TOP], best first."""
    probability, token = jax.lax.top_k(probabilities, TOP)
    return {"probability": probability, "token": token}


def listed(tokenizer: Tokenizer, ids: np.ndarray, shares: np.ndarray) -> list[dict]:
    """[{"token", "probability"}, …]: a token is written as the text that it stands for; a special
    one, or half a word, by name."""
    tokens = []
    for number, share in zip(ids, shares, strict=True):
        number = int(number)
        text = tokenizer.token(number)
        if number not in tokenizer.special_ids and not text.startswith("##"):
            text = tokenizer.decode([number]) or text
        tokens.append({"token": text, "probability": round(float(share), 6)})
    return tokens


def line(tokens: Sequence[Mapping]) -> str:
    """`listed` in one line; a blank, which would not be seen, is shown as it is written in code."""
    named = ((c["token"].strip() or repr(c["token"]), c["probability"]) for c in tokens)
    return ", ".join(f"{token} {share:.1%}" for token, share in named)
