"""A file that only grows, also where the disk is full for a while."""

import sys
from io import FileIO
from pathlib import Path

MOST_KEPT = 64 << 20  # bytes of a file that wait for room


class Appended:
    """Each `add` ends with its bytes handed to the operating system.

    What it does not take is kept, up to `MOST_KEPT`, and written before the next bytes. That this
    begins, that it ends, and what is lost in the end is told on stderr.
    """

    def __init__(self, path: Path):
        """Opens the file at `path`, which may be there."""
        self._path = path
        self._file: FileIO | None = None
        self._kept = bytearray()
        self._lost = 0  # bytes
        self._refused = ""  # why the last bytes were not taken
        self._write()

    def add(self, content: bytes) -> None:
        """Writes what was kept, and `content`."""
        if len(self._kept) + len(content) > MOST_KEPT:
            self._lost += len(content)
        else:
            self._kept += content
        self._write()

    def close(self) -> None:
        """Tries once more."""
        self._write()
        if self._file is not None:
            self._file.close()
        if lost := self._lost + len(self._kept):
            warn(f"{lost:,} bytes of {self._path} are lost: {self._refused or 'too many'}")

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = open(self._path, "ab", buffering=0)
            while self._kept:
                del self._kept[: self._file.write(self._kept)]  # a part, where the room ends
        except OSError as error:
            if not self._refused:
                warn(f"{self._path}: {error.strerror}; its lines are kept until there is room")
            self._refused = error.strerror or str(error)
        else:
            if self._refused:
                warn(f"{self._path} is written again")
            self._refused = ""


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
