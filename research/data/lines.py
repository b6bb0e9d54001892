"""Reads the lines of a text file, gzipped or not, for the readers of rows."""

import codecs
import dataclasses
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from research.errors import UserError

# Byte order marks of encodings other than UTF-8; longer marks first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def refuse(error: UserError) -> None:
    """Raises the error; the default for malformed lines."""
    raise error


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of a file; each loop over them reads it from its beginning.

    Attributes:
      name: the file's name in ids, without "/", since the text before a "/" is a prefix of ids.
      malformed: is called with the error of a malformed line, which is then skipped.
      document: a document in a text: "line", "paragraph", "file", or the number of parts.
    """

    path: Path
    name: str
    malformed: Callable[[UserError], None] = refuse
    document: str | int = "file"

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yields (number from 1, line) with the line end \\n, whatever it is in the file.

        Raises UserError if reading fails; a line that is not UTF-8 is malformed.
        """
        number = 0
        try:
            with self.path.open("rb") as raw:
                file = gzip.open(raw) if self.path.name.endswith(".gz") else raw
                for number, line in enumerate(_split(_utf_8(file)), 1):
                    try:
                        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as error:
                        place = f"{error.reason} at byte {error.start} of the line"
                        how = "convert the file first, for example with iconv"
                        self.malformed(self.error(number, f"not UTF-8 ({place}); {how}"))
                    else:
                        yield number, text[:-2] + "\n" if text.endswith("\r\n") else text
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(
                f"{self.path}, after line {number}: not a whole gzip file ({error})"
            ) from error
        except UnicodeDecodeError as error:  # the file cannot be split into lines
            raise UserError(
                f"{self.path}, after line {number}: not {error.encoding} ({error.reason}), though "
                "its byte order mark says so"
            ) from error
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def strict(self) -> "Lines":
        """Returns the same lines, but a malformed line is an error."""
        return dataclasses.replace(self, malformed=refuse)

    def error(self, number: int, text: str) -> UserError:
        """Returns an error about a line."""
        return UserError(f"{self.where(number)}: {text}")

    def where(self, number: int) -> str:
        return f"{self.path}, line {number}"

    def id(self, number: int) -> str:
        return f"{self.name}:{number}"


def _utf_8(file: BinaryIO) -> Iterable[bytes]:
    """Returns a file's lines, converted to UTF-8 if it begins with a UTF-16 or UTF-32 mark."""
    start = file.read(4)
    file.seek(0)
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            text = io.TextIOWrapper(file, encoding, newline="")
            return (line.encode() for line in text)
    return file


def _split(file: Iterable[bytes]) -> Iterator[bytes]:
    r"""Splits lines at \n, or in a file without \n at \r, as on old Macs."""
    for number, line in enumerate(file):
        if number == 0 and b"\r" in line and not line.endswith(b"\n"):
            yield from line.replace(b"\r", b"\n").splitlines(keepends=True)
        else:
            yield line
