from pathlib import Path

import pytest

from service import Settings

OUTLINE = "# Small\n\n## Alpha\n├── Mode Collapse\n│   └── Signs\n└── Latent Space\n\n## Beta\n└── Attention\n"
SUMMARY = "- id: alpha/mode-collapse\n  summary: A generator that makes the same picture again and again.\n"


@pytest.fixture
def settings(built_home: Path, tmp_path: Path) -> Settings:
    """A home of its own, with the encoder of the shared one, and a small corpus beside it."""
    home, corpus = tmp_path / "home", tmp_path / "corpus"
    home.mkdir()
    (home / "models").symlink_to(built_home / "models")
    (corpus / "topics" / "alpha").mkdir(parents=True)
    (corpus / "outline.txt").write_text(OUTLINE, encoding="utf-8")
    (corpus / "topics" / "alpha" / "mode-collapse.yaml").write_text(SUMMARY, encoding="utf-8")
    return Settings(home=home, corpus=corpus)
