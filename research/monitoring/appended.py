"""An append-only file that survives a disk that is full for a while."""

import sys
from io import FileIO
from pathlib import Path

MOST_KEPT = 64 << 20  # at most this many bytes of a file wait for room


class Appended:
    """A file whose `add` hands its bytes to the operating system before it returns.

    Bytes that the system refuses are kept, up to `MOST_KEPT`, and written before the next ones. A
    warning on stderr says when this begins, when it ends, and how many bytes are lost.
    """

    def __init__(self, path: Path):
        """Opens the file at `path`, which may exist."""
        self._path = path
        self._file: FileIO | None = None
        self._kept = bytearray()
        self._lost = 0  # bytes
        self._refused = ""  # why the system refused the last bytes
        self._write()

    def add(self, content: bytes) -> None:
        """Writes the kept bytes, then `content`."""
        if len(self._kept) + len(content) > MOST_KEPT:
            self._lost += len(content)
        else:
            self._kept += content
        self._write()

    def close(self) -> None:
        """Tries once more to write the kept bytes, and closes the file."""
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
                del self._kept[: self._file.write(self._kept)]  # a write may be partial
        except OSError as error:
            if not self._refused:
                warn(f"{self._path}: {error.strerror}; keeping its lines until there is room")
            self._refused = error.strerror or str(error)
        else:
            if self._refused:
                warn(f"{self._path} can be written again")
            self._refused = ""


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
