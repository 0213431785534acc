"""Outlines: a hierarchy of topic titles as text, read from four formats into one, and written back.

- box tree: `## ` sections, then lines such as `│   ├── Title`, four columns a level
- indentation: the same without box characters, every level as deep as the first
- Markdown: headings (`## ` sections, `### ` below) with nested bullets under them
- OPML: nested `<outline text="…">` elements

A trailing `*` marks a supplementary topic (starred): it is a flag and no part of the title. A title that really ends
with a star ends with a backslash and a star, and one that begins with a mark of the formats has a backslash before it.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from ingest.problems import CorpusError, Problem
from ingest.slug import sibling_slugs

Format = Literal["tree", "indent", "markdown", "opml"]

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_TITLE = 500


@dataclass(frozen=True, slots=True)
class OutlineTopic:
    """One line of an outline. `line` counts from 1, `depth` from 0 for a section."""

    line: int
    depth: int
    starred: bool
    id: str
    title: str
    title_path: tuple[str, ...]

    @property
    def parent(self) -> str | None:
        """Id of the topic above, None for a section."""
        return self.id.rpartition("/")[0] or None


@dataclass(frozen=True, slots=True)
class Outline:
    """A title and its topics in order, each parent before its children."""

    title: str
    topics: tuple[OutlineTopic, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """What a format's reader found: a title at a depth, not yet known to fit under the line above."""

    number: int
    depth: int
    text: str


def read_outline(source: Path, name: str | None = None) -> Outline:
    """Read an outline file in any of the four formats; messages call it `name`, or else by its path.

    Raises CorpusError with every problem of the file.
    """
    name = name or str(source)
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CorpusError([Problem(name, 1, f"cannot be read: {error.strerror}")]) from error
    return parse_outline(data, name)


def parse_outline(data: bytes, name: str = "outline") -> Outline:
    """Read an outline from bytes; `name` stands in messages. Raises CorpusError with every problem."""
    if len(data) > MAX_BYTES:
        raise CorpusError([Problem(name, 1, f"the file is too large: at most {MAX_BYTES:,} bytes are read")])
    text = _decode(data, name)
    problems: list[Problem] = []
    kind = format_of(text)
    if kind == "opml":
        title, lines = _read_opml(text, name)
    else:
        title, lines = _TextReader(name, kind, problems).read(text)
    topics = _place(lines, name, problems)
    if not topics and not problems:
        problems.append(Problem(name, 1, "no topic found", _EXAMPLE))
    if problems:
        raise CorpusError(problems)
    return Outline(title, tuple(topics))


_EXAMPLE = 'Begin a section with "## Title" and put topics under it: "├── Topic", an indented line or "- Topic".'


def format_of(text: str) -> Format:
    """Tell the format from what the text holds; a lone list of headings is Markdown."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return "opml"
    if re.search(r"^[ \t]*[│├└]", text, re.MULTILINE):
        return "tree"
    if re.search(r"^(\s*[-*+] |###)", text, re.MULTILINE) or not re.search(r"^[ \t]+\S", text, re.MULTILINE):
        return "markdown"
    return "indent"


def _decode(data: bytes, name: str) -> str:
    if b"\0" in data:
        raise CorpusError([Problem(name, 1, "this is a binary file", "Give a text file in UTF-8.")])
    try:
        # only what editors count as a line ends one: str.splitlines would also break at form feeds and U+2028
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise CorpusError([Problem(name, line, what, "Save the file as UTF-8.")]) from error


class _TextReader:
    """Reads the three formats that go by lines."""

    def __init__(self, name: str, kind: Format, problems: list[Problem]) -> None:
        self._name = name
        self._kind = kind
        self._problems = problems
        self._heading = 0
        self._base: int | None = None  # columns of the first line under a heading, and of each level below it
        self._step = 0

    def read(self, text: str) -> tuple[str, list[_Line]]:
        """The outline's title and its lines, problems noted on the way."""
        title, lines = "", list[_Line]()
        filler = "│| \t" if self._kind == "tree" else " \t"
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.rstrip()
            if not line.strip(filler):
                continue
            if line.startswith("# ") and not title and not lines:
                title = _one_line(line[2:])
                continue
            heading = re.match(r"(#{1,6})(?:\s+(.*))?$", line)
            if heading:
                found = self._read_heading(number, heading[1], heading[2] or "")
            elif self._kind == "tree":
                found = self._read_branch(number, line)
            else:
                found = self._read_indented(number, line)
            if found is not None:
                lines.append(found)
        return title, lines

    def _problem(self, number: int, what: str, instead: str) -> None:
        self._problems.append(Problem(self._name, number, what, instead))

    def _read_heading(self, number: int, marks: str, text: str) -> _Line | None:
        self._base, self._step = None, 0
        level = len(marks) - 2
        if level < 0 or (level > 0 and self._kind != "markdown"):
            self._problem(number, f'a heading "{marks}" here', 'Sections are "## Title"; the title "# …" stands first.')
            return None
        self._heading = level
        return _Line(number, level, text)

    def _read_branch(self, number: int, line: str) -> _Line | None:
        if "\t" in line:
            self._problem(
                number, "a tab in the tree", "Indent with four columns a level: spaces, or │ and three spaces."
            )
            return None
        branch = re.match(r"((?:[│ ] {3})*)[├└]─+(?: (.*))?$", line)
        if branch is None:
            near = line.strip("│├└─ ")[:40] or "Title"
            form = f'"├── {near}", four columns deeper a level' + ("" if line[0] in " │├└" else f', or "## {near}"')
            self._problem(number, "this is no line of the tree", f"Write {form}.")
            return None
        return _Line(number, len(branch[1]) // 4 + 1, branch[2] or "")

    def _read_indented(self, number: int, line: str) -> _Line | None:
        indent, text = re.match(r"([ \t]*)(.*)$", line, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess] (matches any line)
        if "\t" in indent and " " in indent:
            self._problem(number, "tabs and spaces mixed in the indentation", "Use one of the two throughout the file.")
            return None
        if self._kind == "markdown":
            bullet = re.match(r"(?:[-*+]|\d+[.)])(?: +(.*))?$", text)
            if bullet is None:
                self._problem(number, f'"{text[:40]}" is neither a heading nor a bullet', f'Write "- {text[:40]}".')
                return None
            text = bullet[1] or ""
        if self._base is None:
            self._base = len(indent)
        deeper = len(indent) - self._base
        if deeper and not self._step:
            self._step = abs(deeper)
        if deeper < 0 or (self._step and deeper % self._step):
            wanted = self._base + max(0, round(deeper / self._step)) * self._step
            self._problem(number, f"{len(indent)} columns of indentation fit no level", f"Indent by {wanted} columns.")
            return None
        level = deeper // self._step if self._step else 0
        return _Line(number, self._heading + 1 + level, text)


def _read_opml(text: str, name: str) -> tuple[str, list[_Line]]:
    """Lines of an OPML file, with expat alone: entities and document types are refused, so nothing can blow up."""
    lines: list[_Line] = []
    title: list[str] = []
    open_tags: list[str] = []
    depth = -1
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        what = "a document type or entity declaration"
        raise CorpusError([Problem(name, parser.CurrentLineNumber, what, "Remove it: an OPML outline needs none.")])

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if tag == "outline":
            depth += 1
            lines.append(_Line(parser.CurrentLineNumber, depth, attributes.get("text", attributes.get("title", ""))))
        open_tags.append(tag)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= tag == "outline"
        open_tags.pop()

    def data(piece: str) -> None:
        if open_tags and open_tags[-1] == "title":
            title.append(piece)

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        what = f"not well-formed XML: {expat.errors.messages.get(error.code, 'broken')}"
        raise CorpusError(
            [Problem(name, error.lineno, what, 'An OPML file nests <outline text="…"> in <body>.')]
        ) from error
    return _one_line("".join(title)), lines


def _place(lines: Sequence[_Line], name: str, problems: list[Problem]) -> list[OutlineTopic]:
    """Topics with ids from lines with depths; a line that does not fit is a problem."""
    titles: list[tuple[str, bool]] = []
    above: int | None = None
    for line in lines:
        titles.append(_read_title(line.text))
        for what, instead in _faults(titles[-1][0], line.depth, above):
            problems.append(Problem(name, line.number, what, instead))
        above = line.depth
    if problems:
        return []
    return list(_with_ids(lines, titles))


def _faults(title: str, depth: int, above: int | None) -> Iterator[tuple[str, str]]:
    """What is wrong with a topic at `depth` when the line before stands at `above`, and what to do about it."""
    if not title:
        yield "a topic without a title", "Write its title or remove the line."
    if len(title) > MAX_TITLE:
        yield f"a title of {len(title)} characters; at most {MAX_TITLE}", "Shorten it: a title is a label, not a text."
    control = _CONTROL.search(title)
    if control:
        yield f"the control character U+{ord(control[0]):04X} in a title", "Remove it."
    if depth > MAX_DEPTH:
        yield f"level {depth} is deeper than {MAX_DEPTH} levels", "Move it up."
    if above is None and depth > 0:
        yield "a topic before any section", 'Put "## Section title" above it.'
    elif above is not None and depth > above + 1:
        instead = f"Move it to level {above + 1}, or give it the parent that is missing."
        yield f"a skipped level: level {depth} under level {above}", instead


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_ESCAPE = re.compile(r"^\\(?=[-*+#│├└|<\\])")
"""A backslash before a first character that a format would take for its own."""


def _read_title(text: str) -> tuple[str, bool]:
    """A title without its star and backslashes, and whether it is starred."""
    text = _ESCAPE.sub("", _one_line(text))
    title = text.rstrip("* ")
    tail = text[len(title) :]
    if title.endswith("\\") and tail.startswith("*"):
        return title[:-1] + "*", "*" in tail[1:]
    return title, "*" in tail


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write_title(topic: OutlineTopic) -> str:
    """The text of a topic that `_read_title` reads back."""
    text = topic.title[:-1] + "\\*" if topic.title.endswith("*") else topic.title
    if text[0] in "-*+#│├└|<\\":
        text = "\\" + text
    if not topic.starred:
        return text
    return f"{text} *" if text.endswith("\\") else f"{text}*"


def _with_ids(lines: Sequence[_Line], read: Sequence[tuple[str, bool]]) -> Iterator[OutlineTopic]:
    titles = [title for title, _ in read]
    children: dict[int, list[int]] = {}
    parents: list[int] = []
    stack: list[int] = []
    for index, line in enumerate(lines):
        del stack[line.depth :]
        parents.append(stack[-1] if stack else -1)
        children.setdefault(parents[-1], []).append(index)
        stack.append(index)
    slugs: dict[int, str] = {}
    for siblings in children.values():
        slugs |= dict(zip(siblings, sibling_slugs([titles[index] for index in siblings]), strict=True))
    ids: list[str] = []
    paths: list[tuple[str, ...]] = []
    for index, line in enumerate(lines):
        above = parents[index]
        ids.append(slugs[index] if above < 0 else f"{ids[above]}/{slugs[index]}")
        paths.append((titles[index],) if above < 0 else (*paths[above], titles[index]))
        yield OutlineTopic(line.number, line.depth, read[index][1], ids[index], titles[index], paths[index])


def write_outline(outline: Outline, kind: Format = "tree") -> str:
    """Return the outline as text of one of the formats. Reading it back gives the same topics (line numbers aside).

    The tree has one form: a blank line before a section, no other blank or filler lines, the last sibling with └.
    """
    if kind == "opml":
        return _write_opml(outline)
    lines = [f"# {outline.title}", ""] if outline.title else []
    bars = _bars(outline.topics) if kind == "tree" else []
    for index, topic in enumerate(outline.topics):
        text = _write_title(topic)
        if topic.depth == 0:
            lines += [*([""] if index else []), f"## {text}"]
        elif kind == "tree":
            lines.append(bars[index] + text)
        elif kind == "markdown":
            lines.append("  " * (topic.depth - 1) + f"- {text}")
        else:
            lines.append("    " * topic.depth + text)
    return "\n".join(lines) + "\n"


def _bars(topics: Sequence[OutlineTopic]) -> list[str]:
    """The box characters before each title: a bar wherever a later sibling of that level follows."""
    bars: list[str] = []
    followed: list[bool] = []  # by level: whether a topic comes later under the same parent
    for topic in reversed(topics):
        depth = topic.depth
        followed = [*followed[: depth + 1], *[False] * (depth + 1 - len(followed))]
        lead = "".join("│   " if later else "    " for later in followed[1:depth])
        bars.append(lead + ("├── " if followed[depth] else "└── "))
        followed[depth] = True
        if depth == 0:
            followed = []
    return bars[::-1]


def _write_opml(outline: Outline) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<opml version="2.0">']
    lines += [f"<head><title>{html.escape(outline.title)}</title></head>", "<body>"]
    depth = -1
    for topic in outline.topics:
        lines += ["</outline>"] * (depth - topic.depth + 1)
        lines.append(f'<outline text="{html.escape(_write_title(topic))}">')
        depth = topic.depth
    lines += ["</outline>"] * (depth + 1)
    return "\n".join([*lines, "</body>", "</opml>"]) + "\n"
