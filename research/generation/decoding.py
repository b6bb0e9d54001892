"""Settings of decoding: the flags of `generate`, and `decoding` of a task."""

import dataclasses
from typing import Annotated

from research.errors import UserError
from research.values import Amount, Count, Filled, Positive, Range, Seed, Share, convert

COLDEST = 1e-6  # lower temperatures decode greedily: a draw would overflow, and be the same
MOST = 1024  # beams; each is a row of the cache
STEEPEST = 10  # length penalty; a length to a much higher power overflows float32


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """How tokens are chosen: by default the most probable one (greedy decoding).

    Attributes:
      temperature: divides the logits before a token is drawn; 0 takes the most probable one.
      top_k: draw from the k most probable tokens only; 0: from all.
      top_p: of those, draw from the fewest that together have this probability.
      min_p: of those, leave out tokens below this share of the highest probability; 0: none.
      repetition_penalty: divides positive logits of tokens in the prompt or the text, and
        multiplies negative ones, greedy or not; above 1 they become less probable.
      seed: seed of the draws. The same seed, example id and prompt give the same text, whatever
        else is in the batch.
      beams: number of beams of a beam search, which draws nothing; 1: none.
      length_penalty: a beam search divides the sum of log-probabilities of an ended text by the
        number of its new tokens (including the one that ends it) to this power. 0 ignores the
        length, 1 takes the mean, more favours longer texts.
      stop: a text is cut before the first of these.
    """

    temperature: Amount = 0.0
    top_k: Count = 0
    top_p: Annotated[float, Range(0, 1, "(]")] = 1.0
    min_p: Share = 0.0
    repetition_penalty: Positive = 1.0
    seed: Seed = 0
    beams: Annotated[int, Range(1, MOST)] = 1
    length_penalty: Annotated[float, Range(-STEEPEST, STEEPEST)] = 1.0
    stop: tuple[Filled, ...] = ()

    @property
    def greedy(self) -> bool:
        return self.temperature < COLDEST

    @property
    def searches(self) -> bool:
        """Whether decoding is a beam search."""
        return self.beams > 1


def check(config: DecodingConfig, where: str = "decoding") -> None:
    """Raises UserError for a value out of range, or for one that a beam search cannot use."""
    convert(DecodingConfig, config, where)
    if not config.searches:
        return
    if not config.greedy:
        raise UserError(
            f"{where}: beams={config.beams} and temperature={config.temperature}: a beam search "
            "looks for the most probable text and draws nothing; set temperature=0 or no beams"
        )
    for name in ("top_k", "top_p", "min_p"):
        if (value := getattr(config, name)) != getattr(DecodingConfig, name):
            raise UserError(
                f"{where}: beams={config.beams} and {name}={value}: a beam search draws nothing, "
                f"so {name} has no effect; leave {name} out or set no beams"
            )
