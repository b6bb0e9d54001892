"""The most probable tokens at a position, as device arrays and as text."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from research.data.tokenizer import Tokenizer

TOP = 5


def top(probabilities: Float[Array, "... V"]) -> dict[str, Array]:
    """Returns "probability" and "token" of the TOP best tokens, [..., TOP], best first."""
    probability, token = jax.lax.top_k(probabilities, TOP)
    return {"probability": probability, "token": token}


def listed(tokenizer: Tokenizer, ids: np.ndarray, shares: np.ndarray) -> list[dict]:
    """Returns [{"token", "probability"}, …]. A token is shown as its text; a special token or a
    ## piece by its name."""
    tokens = []
    for number, share in zip(ids, shares, strict=True):
        number = int(number)
        text = tokenizer.token(number)
        if number not in tokenizer.special_ids and not text.startswith("##"):
            text = tokenizer.decode([number]) or text
        tokens.append({"token": text, "probability": round(float(share), 6)})
    return tokens


def line(tokens: Sequence[Mapping]) -> str:
    """Writes `listed` in one line; a token of white space is shown as a Python literal."""
    named = ((c["token"].strip() or repr(c["token"]), c["probability"]) for c in tokens)
    return ", ".join(f"{token} {share:.1%}" for token, share in named)
