"""The demos there are, read from their files without running one: `demos/<family>/<id with underscores>.py`.

What a page or a list needs (title, question, source, claims) stands in the file as literals, so that it is read with
`ast` and torch is not loaded for it. Parameters need the demo's import: see `demos.parameters`.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from demos.errors import BadDemoFile, DemoNotFound

DEMOS = Path(__file__).parent
FAMILIES = (  # in the outline's order; a family has a folder once it has a demo
    "fundamentals", "vaes", "gans", "diffusion", "stable_diffusion", "transformers", "vision_transformers",
    "language_models", "bert", "gpt", "llms", "deepseek",
)  # fmt: skip
SHARED = "shared"
"""Folder of the building blocks that several demos use: drawn data, small networks, distances."""
_FIELDS = ("Question", "Source", "Watch")
_RELATIONS = ("<=", ">=", "<", ">", "==")


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """What a demo claims of its run, before any run: the sentence and the bound that the measured number must keep."""

    statement: str
    relation: str
    bound: float


@dataclass(frozen=True, slots=True)
class DemoSpec:
    """A demo as its file describes it. `code_hash` changes with every file of ours that its result depends on."""

    id: str
    family: str
    title: str
    question: str
    source: str
    watch: str
    claims: tuple[ClaimSpec, ...]
    path: Path
    code_hash: str

    @property
    def code(self) -> str:
        """The demo's source text."""
        return self.path.read_text(encoding="utf-8")


def catalogue(folder: Path = DEMOS) -> Mapping[str, DemoSpec]:
    """Return every demo of a folder by id, in the order of families, then ids; loads neither torch nor a demo.

    Reads all files (about 1 ms each). Raises BadDemoFile with the problems of all files at once.
    """
    specs: list[DemoSpec] = []
    problems: list[str] = []
    for path in sorted(_files(folder)):
        try:
            specs.append(_read_demo(path))
        except BadDemoFile as bad:
            problems.extend(bad.problems)
    by_id: dict[str, DemoSpec] = {}
    for spec in sorted(specs, key=lambda spec: (_family_order(spec.family), spec.id)):
        if spec.id in by_id:
            problems.append(f"{spec.path}: {by_id[spec.id].path} is a demo of the same id; rename one of the files")
        by_id[spec.id] = spec
    if problems:
        raise BadDemoFile(problems)
    return MappingProxyType(by_id)


def find_demo(demo_id: str, folder: Path = DEMOS) -> DemoSpec:
    """Return the demo of this id, reading only its file. Raises DemoNotFound, with the ids that read like it."""
    by_id = {_id_of(path): path for path in _files(folder)}
    if demo_id in by_id:
        return _read_demo(by_id[demo_id])
    from rapidfuzz import process  # only where an id is wrong

    raise DemoNotFound(demo_id, [hit for hit, _, _ in process.extract(demo_id, list(by_id), limit=3, score_cutoff=60)])


def _files(folder: Path) -> Iterator[Path]:
    """The files of demos; the blocks that they share are none."""
    return (path for path in folder.glob("*/*.py") if path.name != "__init__.py" and path.parent.name != SHARED)


def _family_order(family: str) -> tuple[int, str]:
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), family)


def _id_of(path: Path) -> str:
    return path.stem.replace("_", "-")


def _read_demo(path: Path) -> DemoSpec:
    text = path.read_text(encoding="utf-8")
    try:
        module = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        raise BadDemoFile([f"{path}:{error.lineno}: not Python: {error.msg}"]) from None
    title, _, rest = (ast.get_docstring(module) or "").partition("\n")
    fields = _docstring_fields(rest)
    problems = [] if title else [f"{path}:1: no docstring; its first line is the demo's title"]
    problems += [
        f'{path}:1: the docstring has no "{name}:" line; write one' for name in _FIELDS if not fields.get(name)
    ]
    claims = list(_claims(module, path, problems))
    if not claims:
        problems.append(f"{path}: no Claim(...) in it; a demo claims at least one thing that its run can refute")
    if problems:
        raise BadDemoFile(problems)
    return DemoSpec(
        id=_id_of(path),
        family=path.parent.name,
        title=title.strip().removesuffix("."),
        question=fields["Question"],
        source=fields["Source"],
        watch=fields["Watch"],
        claims=tuple(claims),
        path=path,
        code_hash=_code_hash(path, module),
    )


def _docstring_fields(text: str) -> dict[str, str]:
    """The `Name: text` paragraphs of a docstring; a field goes on until the next one or an empty line."""
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if start := re.match(r"([A-Z][a-z]+):\s+(.*)", line):
            current = fields.setdefault(start[1], [])
            current.append(start[2])
        elif line.strip():
            current.append(line.strip())
        else:
            current = []
    return {name: " ".join(parts).strip() for name, parts in fields.items()}


def _claims(module: ast.Module, path: Path, problems: list[str]) -> Iterator[ClaimSpec]:
    """The claims that the file states, in the order of its text; what cannot be read is added to `problems`."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and _called(node) == "Claim"]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        given = dict(zip(("statement", "measured", "relation", "bound"), call.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        values: dict[str, object] = {}
        for name in ("statement", "relation", "bound"):
            try:
                values[name] = ast.literal_eval(given[name])
            except (KeyError, ValueError):
                problems.append(f"{path}:{call.lineno}: write the claim's {name} as a literal, so that lists show it")
        match values:
            case {"statement": str(statement), "relation": str(relation), "bound": int(bound) | float(bound)}:
                if relation not in _RELATIONS:
                    problems.append(f"{path}:{call.lineno}: {relation!r} is none of {' '.join(_RELATIONS)}")
                yield ClaimSpec(statement, relation, float(bound))
            case _ if len(values) == 3:
                problems.append(f"{path}:{call.lineno}: a claim is Claim(sentence, number measured, relation, bound)")
            case _:
                pass  # already reported above


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _code_hash(path: Path, module: ast.Module) -> str:
    """SHA-256 over the demo, the contract and the modules of `demos` that it imports, directly or through one."""
    files = {DEMOS / "contract.py"}
    waiting = list(_shared_modules(module))
    while waiting:
        shared = waiting.pop()
        if shared not in files:
            files.add(shared)
            waiting.extend(_shared_modules(ast.parse(shared.read_text(encoding="utf-8"))))
    digest = hashlib.sha256()
    for file in (path, *sorted(files)):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _shared_modules(module: ast.Module) -> Iterator[Path]:
    for node in ast.walk(module):
        match node:
            case ast.ImportFrom(module=str(source), names=aliases):
                names = [source, *(f"{source}.{alias.name}" for alias in aliases)]
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case _:
                continue
        ours = [name.split(".")[1:] for name in names if name.startswith("demos.")]
        yield from (file for parts in ours if (file := DEMOS.joinpath(*parts).with_suffix(".py")).is_file())
