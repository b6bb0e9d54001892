"""Rows that are not used: counted, so that they can be told."""

import collections
import dataclasses
from collections.abc import Callable

from research.data import kinds
from research.data.kinds import Example
from research.data.row import Row


@dataclasses.dataclass
class LeftOut:
    """Rows that are not used: their number by the reason, and where the first of each stands."""

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, row: Row, reason: str) -> None:
        """Counts a row."""
        self.counts[reason] += 1
        self.first.setdefault(reason, row.where)

    def read(self, row: Row, kind: str, read: Callable[[Row], Example]) -> Example | None:
        """What `read` makes of a row, or None, and the row is counted, where it cannot be used."""
        example = {} if row.left_out else read(row)
        if reason := row.left_out or kinds.emptiness(kind, example):
            self.add(row, reason)
            return None
        return example

    def lines(self) -> list[str]:
        """A line for each reason."""
        return [
            f"left out: {count:,} {'row' if count == 1 else 'rows'}, {reason} "
            f"({'' if count == 1 else 'the first: '}{self.first[reason]})"
            for reason, count in self.counts.items()
        ]
