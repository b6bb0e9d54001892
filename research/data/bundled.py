"""The open data that ships with the project: `bundled:corpus/brown` and the like."""

from pathlib import Path

from research.errors import UserError, nearest

FOLDER = Path(__file__).parent / "bundled"
_SUFFIX = ".jsonl.gz"
# Caveats for scores on these sets.
ABOUT_SCORES = (
    "The entity tags are distant (about 93 % precise, 80 % complete), and the questions are made "
    "from templates: neither score compares with those of human-labelled sets. A rule that knows "
    "the questions' layout (the named field's text) answers all of them."
)


def names() -> list[str]:
    """Returns the valid names, such as "corpus/brown", sorted."""
    return sorted(
        path.relative_to(FOLDER).as_posix().removesuffix(_SUFFIX)
        for path in FOLDER.rglob(f"*{_SUFFIX}")
    )


def path(name: str) -> Path:
    """Returns the file of a bundled name. Raises UserError with the nearest valid name."""
    valid = names()
    if name not in valid:
        raise UserError(f"no bundled data named {name!r}{nearest(name, valid)}")
    return FOLDER / f"{name}{_SUFFIX}"
