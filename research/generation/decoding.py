"""How a task's answers are decoded, as a config says it."""

import dataclasses

from research.errors import UserError
from research.generation import beams as searching
from research.generation import samplers
from research.generation.beams import Beams
from research.generation.samplers import Sampling


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """As the flags of `generate`, but greedy where nothing is said; see `Sampling` and `Beams`.

    Attributes:
      temperature: of the draws; 0 takes the most probable token.
      top_k: draw from the k most probable tokens only; 0: from all.
      top_p: draw from the fewest tokens with this probability together.
      min_p: leave out tokens below this share of the most probable one's.
      repetition_penalty: above 1, what was there becomes less probable.
      seed: of the draws.
      beams: beam search with so many; 1: none.
      length_penalty: of a beam search: the larger, the longer its texts.
      stop: a text is cut before the first of these.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What is drawn from."""
        names = [field.name for field in dataclasses.fields(Sampling)]
        return Sampling(**{name: getattr(self, name) for name in names})

    @property
    def search(self) -> Beams | None:
        """The beam search; None for one beam, which is greedy or drawn."""
        return None if self.beams == 1 else Beams(self.beams, self.length_penalty)


def check(config: DecodingConfig) -> None:
    """Raises UserError for a value out of range, and for values that contradict each other."""
    try:
        samplers.check(config.sampling)
        if config.search is not None:
            searching.check(config.search, config.sampling)
    except UserError as error:
        raise UserError(f"config.task.decoding: {error}") from error
    if "" in config.stop:
        raise UserError("config.task.decoding.stop has an empty string, which is in every text")
