"""References from a BibTeX file, their LaTeX spelled out."""

import logging
import re
from pathlib import Path

from bibtexparser.entrypoint import parse_string
from bibtexparser.exceptions import BlockAbortedException
from bibtexparser.library import Library
from bibtexparser.middlewares import (
    BlockMiddleware,
    LatexDecodingMiddleware,
    NameParts,
    SeparateCoAuthors,
    SplitNameParts,
)
from bibtexparser.model import (
    DuplicateBlockKeyBlock,
    DuplicateFieldKeyBlock,
    Entry,
    ImplicitComment,
    MiddlewareErrorBlock,
    ParsingFailedBlock,
)

from graph import Reference
from ingest.problems import Problem

MAX_BYTES = 16 * 1024 * 1024

_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}(v\d+)?")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_URL = re.compile(r"https?://\S+")
_LATEX = re.compile(r"[\\$~]|--|``|''")
_QUIET = logging.NullHandler()


def read_references(path: Path, name: str, problems: list[Problem]) -> dict[Reference, int]:
    """Read the works of a BibTeX file, in its order, each with the line that it begins on.

    A work that cannot be read or looked up is a problem.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(Problem(name, 1, f"cannot be read: {error.strerror}"))
        return {}
    if len(data) > MAX_BYTES:
        problems.append(Problem(name, 1, f"the file is too large: at most {MAX_BYTES:,} bytes are read"))
        return {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problems.append(Problem(name, line, f"byte 0x{data[error.start]:02x} is not UTF-8", "Save the file as UTF-8."))
        return {}
    logging.getLogger("bibtexparser").addHandler(_QUIET)  # it also logs, to stderr, what becomes a problem here
    library = parse_string(text)
    problems.extend(Problem(name, (block.start_line or 0) + 1, *_fault(block)) for block in library.failed_blocks)
    for comment in library.comments:
        stray = [line for line in (comment.raw or "").splitlines() if not line.lstrip().startswith("%")]
        if isinstance(comment, ImplicitComment) and any(line.strip() for line in stray):
            what = f'"{next(filter(str.strip, stray)).strip()[:40]}" belongs to no work'
            problems.append(
                Problem(name, (comment.start_line or 0) + 1, what, "Begin a work with @, a comment with %.")
            )
    return {_reference(entry, library, name, problems): _line(entry) for entry in library.entries}


def _fault(block: ParsingFailedBlock) -> tuple[str, str]:
    """Why a block could not be read, and what to do."""
    if isinstance(block, DuplicateBlockKeyBlock):
        first = (block.previous_block.start_line or 0) + 1
        return f'the key "{block.key}" stands already at line {first}', "Keep one of the two, or rename one."
    if isinstance(block, DuplicateFieldKeyBlock):
        return f"the field {', '.join(sorted(block.duplicate_keys))} stands twice in one work", "Keep one of the two."
    reason = block.error.abort_reason if isinstance(block.error, BlockAbortedException) else str(block.error)
    return f"not valid BibTeX: {' '.join(reason.split())}", "Close every brace; end each field with a comma."


def _reference(entry: Entry, library: Library, name: str, problems: list[Problem]) -> Reference:
    line = _line(entry)
    url = next((str(field.value) for field in entry.fields if field.key.lower() == "url"), "")
    steps: list[BlockMiddleware] = [SeparateCoAuthors(), SplitNameParts()]
    if _LATEX.search(entry.raw or ""):
        steps.insert(0, LatexDecodingMiddleware(keep_braced_groups=True))  # the braces of {A and B} hold one name
    for step in steps:
        read = step.transform_entry(entry, library)
        if isinstance(read, MiddlewareErrorBlock):
            reason = " ".join(str(read.error).split())
            problems.append(
                Problem(name, line, f'"{entry.key}": {reason}', "Write names as Last, First and Last, First.")
            )
            return Reference(entry.key, "", ())
    fields = {field.key.lower(): field.value for field in entry.fields}
    plain = {key: _plain(value) for key, value in fields.items() if isinstance(value, str)}
    people: list[NameParts] = fields.get("author") or fields.get("editor") or []
    year = re.search(r"\d{4}", plain.get("year", ""))
    is_arxiv = plain.get("archiveprefix", "arXiv").casefold() == "arxiv"
    reference = Reference(
        key=entry.key,
        title=plain.get("title", ""),
        authors=tuple(_name(person) for person in people),
        year=int(year[0]) if year else None,
        venue=next((plain[key] for key in ("journal", "booktitle", "publisher", "institution") if plain.get(key)), ""),
        arxiv=re.sub(r"^arxiv:\s*", "", plain.get("eprint", ""), flags=re.IGNORECASE) if is_arxiv else "",
        doi=re.sub(r"^(https?://(dx\.)?doi\.org/|doi:\s*)", "", plain.get("doi", ""), flags=re.IGNORECASE),
        url=re.sub(r"\\([#%&_~])", r"\1", url).strip("{} "),  # a ~ is a part of it here, and a blank in LaTeX
    )
    problems.extend(Problem(name, line, *fault) for fault in _faults(reference))
    return reference


def _line(entry: Entry) -> int:
    return (entry.start_line or 0) + 1


def _faults(work: Reference) -> list[tuple[str, str]]:
    """What is wrong with a work that was read."""
    faults: list[tuple[str, str]] = []
    if not work.title:
        faults.append((f'"{work.key}" has no title', "Give title."))
    if not (work.arxiv or work.doi or work.url):
        faults.append((f'"{work.key}" cannot be looked up: it has no arXiv id, DOI or URL', "Give eprint, doi or url."))
    for field, value, form, example in (
        ("eprint", work.arxiv, _ARXIV, "2006.11239"),
        ("doi", work.doi, _DOI, "10.1038/nature14539"),
        ("url", work.url, _URL, "https://…"),
    ):
        if value and not form.fullmatch(value):
            faults.append(
                (f'"{work.key}": {field} "{value}" is not of the form {example}', f"Correct or remove {field}.")
            )
    return faults


def _plain(text: str) -> str:
    return " ".join(text.replace("{", "").replace("}", "").split())


def _name(person: NameParts) -> str:
    return _plain(" ".join([*person.first, *person.von, *person.last, *person.jr]))
