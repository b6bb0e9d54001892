"""Rows that are not used: counted, so that they can be told."""

import collections
import dataclasses
from collections.abc import Callable

from research.data import kinds
from research.data.kinds import Example
from research.data.row import Row

NAMED = 20  # rows of a reason that are named one by one


@dataclasses.dataclass
class LeftOut:
    """Rows that are not used: their number by the reason, and where the first of each stands.

    What a reason has behind ": " is of that row alone: such rows are named one by one.
    """

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    named: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, row: Row, reason: str) -> None:
        """Counts a row."""
        reason, _, detail = reason.partition(": ")
        self.counts[reason] += 1
        self.first.setdefault(reason, row.where)
        if detail and len(self.named.setdefault(reason, [])) < NAMED:
            self.named[reason].append(f"  {row.where}: {detail}")

    def read(self, row: Row, read: Callable[[Row], Example]) -> Example | None:
        """What `read` makes of a row, or None, and the row is counted, where it cannot be used."""
        example = {} if row.left_out else read(row)
        if reason := row.left_out or kinds.emptiness(example):
            self.add(row, reason)
            return None
        return example

    def lines(self) -> list[str]:
        """A line for each reason, and one for each row that is named."""
        lines = []
        for reason, count in self.counts.items():
            text = f"left out: {count:,} {'row' if count == 1 else 'rows'}, {reason}"
            named = self.named.get(reason, [])
            first = f" ({'' if count == 1 else 'the first: '}{self.first[reason]})"
            more = [f"  and {count - len(named):,} more"] if len(named) < count else []
            lines += [text, *named, *more] if named else [text + first]
        return lines
