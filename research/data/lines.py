"""The lines of one text file, gzipped or not, and what makes rows of them."""

import codecs
import dataclasses
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from research.errors import UserError

# What a file begins with that is not UTF-8; the longer marks first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def refuse(error: UserError) -> None:
    """What is done with a malformed line unless one says otherwise: raises the error."""
    raise error


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of a file; each loop over them reads it from its beginning.

    Attributes:
      name: of the file in ids; without "/", since what stands before one is a prefix, not the id.
      malformed: is told what is wrong with a line of which no row is made then.
      document: what is a document in a text: "line", "paragraph", "file", or the number of parts.
    """

    path: Path
    name: str
    malformed: Callable[[UserError], None] = refuse
    document: str | int = "file"

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(number from 1, line with its end, which is \\n whatever it is in the file), UTF-8.

        Raises UserError for a file that cannot be read on; a line that is not UTF-8 is malformed.
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
        except UnicodeDecodeError as error:  # its lines are not known
            raise UserError(
                f"{self.path}, after line {number}: not {error.encoding} ({error.reason}), though "
                "it begins so"
            ) from error
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error

    def strict(self) -> "Lines":
        """The same, but a malformed line is an error."""
        return dataclasses.replace(self, malformed=refuse)

    def error(self, number: int, text: str) -> UserError:
        """What is wrong with a line."""
        return UserError(f"{self.where(number)}: {text}")

    def where(self, number: int) -> str:
        return f"{self.path}, line {number}"

    def id(self, number: int) -> str:
        return f"{self.name}:{number}"


def _utf_8(file: BinaryIO) -> Iterable[bytes]:
    """The lines of a file; those of one that begins with a mark of UTF-16 or UTF-32 as UTF-8."""
    start = file.read(4)
    file.seek(0)
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            text = io.TextIOWrapper(file, encoding, newline="")
            return (line.encode() for line in text)
    return file


def _split(file: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines that end in \n; of a file that has none, those that end in \r, as Macs once wrote."""
    for number, line in enumerate(file):
        if number == 0 and b"\r" in line and not line.endswith(b"\n"):
            yield from line.replace(b"\r", b"\n").splitlines(keepends=True)
        else:
            yield line
