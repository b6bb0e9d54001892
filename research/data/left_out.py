"""Counts rows that are left out, for a report."""

import collections
import dataclasses
from collections.abc import Callable

from research.data import kinds
from research.data.kinds import Example
from research.data.row import Row

NAMED = 20  # rows listed for each reason, at most


@dataclasses.dataclass
class LeftOut:
    """Rows that are left out: their number by reason, and the place of the first one.

    The part of a reason after ": " is about that row alone: such rows are listed one by one.
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
        """Returns `read` of a row; if it is unusable, counts the row and returns None."""
        example = {} if row.left_out else read(row)
        if reason := row.left_out or kinds.emptiness(example):
            self.add(row, reason)
            return None
        return example

    def lines(self) -> list[str]:
        """Returns a line for each reason, and one for each listed row."""
        lines = []
        for reason, count in self.counts.items():
            text = f"left out: {count:,} {'row' if count == 1 else 'rows'}, {reason}"
            named = self.named.get(reason, [])
            first = f" ({'' if count == 1 else 'the first: '}{self.first[reason]})"
            more = [f"  and {count - len(named):,} more"] if len(named) < count else []
            lines += [text, *named, *more] if named else [text + first]
        return lines
