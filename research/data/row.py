"""One row of a file or a data set, before its values are read as those of an example."""

from typing import NamedTuple


class Row(NamedTuple):
    """One raw row.

    Attributes:
      where: where it stands, for messages.
      fallback_id: its id where it has none of its own.
      fields: its values by their names.
      left_out: why it is not used; empty for a row that is. Such rows are counted and told.
      read_as: how its file is read, for people; empty where the ending says all.
    """

    where: str
    fallback_id: str
    fields: dict
    left_out: str = ""
    read_as: str = ""
