"""The open data that ships with the project: `bundled:corpus/brown` and the like."""

from pathlib import Path

from research.errors import UserError, nearest

FOLDER = Path(__file__).parent / "bundled"
_SUFFIX = ".jsonl.gz"


def names() -> list[str]:
    """The valid names, such as "corpus/brown", sorted."""
    return sorted(
        path.relative_to(FOLDER).as_posix().removesuffix(_SUFFIX)
        for path in FOLDER.rglob(f"*{_SUFFIX}")
    )


def path(name: str) -> Path:
    """The file behind a bundled name. Raises UserError with the nearest valid name."""
    valid = names()
    if name not in valid:
        raise UserError(f"no bundled data named {name!r}{nearest(name, valid)}")
    return FOLDER / f"{name}{_SUFFIX}"
