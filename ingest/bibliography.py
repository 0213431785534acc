"""References from a BibTeX file, their LaTeX spelled out."""

import re
from pathlib import Path

from bibtexparser.entrypoint import parse_string
from bibtexparser.middlewares import LatexDecodingMiddleware, NameParts, SeparateCoAuthors, SplitNameParts
from bibtexparser.model import DuplicateBlockKeyBlock, Entry

from graph import Reference
from ingest.problems import Problem


def read_references(path: Path, name: str, problems: list[Problem]) -> tuple[Reference, ...]:
    """Read the works of a BibTeX file in its order. A work that cannot be looked up is a problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problems.append(Problem(name, 1, f"not UTF-8: {error.reason}", "Save the file as UTF-8."))
        return ()
    library = parse_string(text, append_middleware=[LatexDecodingMiddleware(), SeparateCoAuthors(), SplitNameParts()])
    for block in library.failed_blocks:
        twice = isinstance(block, DuplicateBlockKeyBlock)
        what = f'the key "{block.key}" stands twice' if twice else f"not valid BibTeX: {block.error}"
        problems.append(Problem(name, (block.start_line or 0) + 1, what))
    return tuple(_reference(entry, name, problems) for entry in library.entries)


def _reference(entry: Entry, name: str, problems: list[Problem]) -> Reference:
    fields = {key.lower(): field.value for key, field in entry.fields_dict.items()}
    plain = {key: _plain(value) for key, value in fields.items() if isinstance(value, str)}
    people: list[NameParts] = fields.get("author") or fields.get("editor") or []
    year = re.search(r"\d{4}", plain.get("year", ""))
    reference = Reference(
        key=entry.key,
        title=plain.get("title", ""),
        authors=tuple(_name(person) for person in people),
        year=int(year[0]) if year else None,
        venue=plain.get("journal") or plain.get("booktitle") or plain.get("publisher") or "",
        arxiv=plain.get("eprint", ""),
        doi=plain.get("doi", ""),
        url=plain.get("url", ""),
    )
    line = (entry.start_line or 0) + 1
    if not reference.title:
        problems.append(Problem(name, line, f'"{entry.key}" has no title'))
    if not (reference.arxiv or reference.doi or reference.url):
        what = f'"{entry.key}" cannot be looked up: it has no arXiv id, DOI or URL'
        problems.append(Problem(name, line, what, "Give eprint, doi or url."))
    return reference


def _plain(text: str) -> str:
    return " ".join(text.replace("{", "").replace("}", "").split())


def _name(person: NameParts) -> str:
    return _plain(" ".join([*person.first, *person.von, *person.last, *person.jr]))
