"""How a text goes on: what `generate` has as flags and a task as `decoding`."""

import dataclasses
from typing import Annotated

from research.errors import UserError
from research.values import Amount, Count, Filled, Positive, Range, Seed, Share, convert

COLDEST = 1e-6  # a temperature below is greedy: the draw would overflow, and be the same
MOST = 1024  # beams, each of which is a row of the cache
STEEPEST = 10  # a length to a power far beyond overflows float32


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """How tokens are chosen: by default the most probable one each time.

    Attributes:
      temperature: divides the logits before a token is drawn; 0 takes the most probable one.
      top_k: draw from the k most probable tokens only; 0: from all.
      top_p: of those, draw from the fewest that have this probability together.
      min_p: of those, leave out tokens below this share of the most probable one's; 0: none.
      repetition_penalty: divides positive logits of tokens that the prompt or the text has, and
        multiplies negative ones, greedy or not; above 1 they become less probable.
      seed: of the draws. The same seed, example id and prompt give the same text, whatever else is
        in the batch.
      beams: beam search with so many, which draws nothing; 1: none.
      length_penalty: of a beam search: an ended text scores the sum of its log-probabilities
        divided by its new tokens (the one that ends it included) to this power. 0 does not look at
        the length, 1 takes the mean, more favours longer texts.
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
        """Whether it is a beam search."""
        return self.beams > 1


def check(config: DecodingConfig, where: str = "decoding") -> None:
    """Raises UserError for a value out of range, and for one that a beam search has no use for."""
    convert(DecodingConfig, config, where)
    if not config.searches:
        return
    if not config.greedy:
        raise UserError(
            f"{where}: beams={config.beams} and temperature={config.temperature}: a beam search "
            "looks for the most probable text and draws nothing; give temperature=0 or no beams"
        )
    for name in ("top_k", "top_p", "min_p"):
        if (value := getattr(config, name)) != getattr(DecodingConfig, name):
            raise UserError(
                f"{where}: beams={config.beams} and {name}={value}: a beam search draws nothing, "
                f"so there is nothing to choose from; leave {name} out or give no beams"
            )
