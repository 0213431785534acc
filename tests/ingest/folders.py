"""Small corpora in a folder, for the tests of reading and linting."""

from pathlib import Path
from textwrap import dedent

import pytest

from ingest import CorpusError, read_corpus

ROOT = Path(__file__).resolve().parents[2]
OUTLINE = "# Test\n\n## Alpha\n├── One\n│   └── Deep\n└── Two\n\n## Beta\n└── Three\n"


def corpus(folder: Path, **files: str) -> Path:
    """A corpus of these files and, unless it is one of them, the test outline.

    `__` in a name stands for a slash, a last `_yaml`, `_bib` or `_txt` for the ending.
    """
    for name, text in {"outline_txt": OUTLINE, **files}.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return folder


def problems_of(folder: Path) -> list[str]:
    """What reading the corpus reports, one text a problem, in order."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(folder)
    return [str(problem) for problem in caught.value.problems]
