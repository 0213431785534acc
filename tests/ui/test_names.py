"""Streamlit puts ui/ first on sys.path: a name in it that is also a package's would hide that package."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
HEAVY = ("torch", "transformers", "sentence_transformers", "faiss", "altair", "matplotlib")


def names_in_ui() -> set[str]:
    """What `import NAME` could find in ui/: its modules, and its folders, which are namespace packages at least."""
    ui = ROOT / "ui"
    return {path.stem for path in ui.glob("*.py")} | {
        path.name for path in ui.iterdir() if path.is_dir() and path.name.isidentifier()
    }


def test_no_name_in_ui_hides_a_package() -> None:
    taken = (OURS - {"ui"}) | set(sys.stdlib_module_names) | set(packages_distributions())
    assert {"graph", "search", "typing", "streamlit"} <= taken
    hidden = names_in_ui() & taken - {"__init__", "__main__", "__pycache__"}
    assert not hidden, f"rename in ui/: {sorted(hidden)}"


def test_no_folder_is_called_pages() -> None:
    assert not (ROOT / "ui" / "pages").exists(), "Streamlit would offer every file in it as a page"


@pytest.mark.parametrize("page", ["explore", "topic", "ask", "compare", "path", "place", "demo"])
def test_a_page_imports_nothing_heavy(page: str) -> None:
    """The module-level imports of app.py and of a page, without running the page: its last line is what runs it."""
    code = f"""
import ast, sys
from pathlib import Path
for file in ("ui/app.py", "ui/views/{page}.py"):
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    kept = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(kept, []), file, "exec"))
print(*sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
