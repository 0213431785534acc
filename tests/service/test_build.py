import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graph import Atlas, from_json, to_json
from ingest import CorpusError
from search import Example
from service import Settings, SnapshotDamaged, open_service
from service.build import build, file_source
from service.contents import read_atlas
from service.snapshot import open_current
from tests.conftest import ROOT
from tests.service.conftest import OUTLINE


def written(settings: Settings) -> Path:
    return settings.corpus / "topics" / "alpha" / "mode-collapse.yaml"


def test_a_build_serves_what_was_read(settings: Settings) -> None:
    report = build(settings)
    assert report.changed
    assert report.snapshot.manifest.counts["topics"] == 6
    assert report.snapshot.manifest.counts["written"] == 1
    service = open_service(settings)
    assert service.store.topic("alpha/mode-collapse").summary.startswith("A generator")
    assert service.search("mode collapse").hits[0].topic.id == "alpha/mode-collapse"


def test_unchanged_inputs_leave_nothing_to_do(settings: Settings) -> None:
    first = build(settings)
    again = build(settings)
    assert not again.changed
    assert again.snapshot.folder == first.snapshot.folder


def test_of_one_changed_topic_only_its_own_passages_are_encoded(settings: Settings) -> None:
    whole = build(settings).embedded
    text = written(settings)
    text.write_text(text.read_text() + "  aliases: [sameness]\n")
    report = build(settings)
    assert report.changed
    assert report.embedded == 1
    assert report.reused >= whole
    assert open_service(settings).search("sameness").hits[0].topic.id == "alpha/mode-collapse"


def test_vectors_that_were_taken_over_are_those_of_a_fresh_build(settings: Settings) -> None:
    build(settings)
    text = written(settings)
    text.write_text(text.read_text() + "  aliases: [sameness]\n")
    incremental = build(settings).snapshot.folder / "vectors.faiss"
    fresh = build(settings, force=True).snapshot.folder / "vectors.faiss"
    assert incremental != fresh
    assert incremental.read_bytes() == fresh.read_bytes()


def test_a_vector_is_taken_over_by_the_text_that_it_was_made_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version makes another text of the same comparison: the old text's vector must not stand for it."""

    def say(wording: str) -> None:
        def examples(_: Atlas) -> list[Example]:
            return [Example("one-vs-other", wording)]

        for module in ("service.build", "service.contents"):
            monkeypatch.setattr(f"{module}.comparison_examples", examples)

    say("which of the two is faster?")
    build(settings)
    say("quite another wording")
    written(settings).write_text(written(settings).read_text() + "  aliases: [sameness]\n")
    report = build(settings)
    assert report.embedded == 2  # the alias and the wording
    fresh = build(settings, force=True)
    assert (report.snapshot.folder / "comparisons.npy").read_bytes() == (
        fresh.snapshot.folder / "comparisons.npy"
    ).read_bytes()


def test_a_broken_corpus_changes_nothing(settings: Settings) -> None:
    before = build(settings).snapshot.manifest.id
    written(settings).write_text("- id: alpha/mode-colapse\n")
    with pytest.raises(CorpusError, match=r'mode-collapse\.yaml:1: unknown topic "alpha/mode-colapse"'):
        build(settings)
    assert open_service(settings).opened.id == before


def test_a_topic_that_lost_its_text_is_named(settings: Settings) -> None:
    build(settings)
    written(settings).write_text("- id: alpha/mode-collapse\n  minutes: 5\n")
    assert build(settings).lost_text == ("alpha/mode-collapse",)


def test_progress_is_told_stage_by_stage(settings: Settings) -> None:
    heard: list[tuple[str, float]] = []
    build(settings, progress=lambda stage, fraction: heard.append((stage, fraction)))
    stages = list(dict.fromkeys(stage for stage, _ in heard))
    assert stages[0] == "Reading the corpus"
    assert stages[-1] == "Writing the snapshot"
    assert any(stage.startswith("Embedding") for stage in stages)
    assert all(0 <= fraction <= 1 for _, fraction in heard)


def test_a_flipped_byte_is_found_when_the_file_is_used_and_a_build_mends_it(settings: Settings) -> None:
    build(settings)
    vectors = open_current(settings.home).folder / "vectors.faiss"
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    service = open_service(settings)
    assert service.store.topic("alpha").title == "Alpha"
    with pytest.raises(SnapshotDamaged, match=r"vectors\.faiss does not match its manifest"):
        service.search("mode collapse")
    assert build(settings).changed
    assert open_service(settings).search("mode collapse").hits


def test_a_missing_encoder_is_told_with_every_ranking(settings: Settings) -> None:
    build(settings)
    (settings.home / "models").unlink()
    ranking = open_service(settings).search("mode collapse")
    assert ranking.meaning_off
    assert ranking.hits[0].topic.id == "alpha/mode-collapse"


@pytest.mark.parametrize("name", ["mine.txt", "mine.md", "mine.json", "mine.graphml"])
def test_an_atlas_is_built_from_one_file(settings: Settings, name: str, tmp_path: Path) -> None:
    from graph import to_graphml
    from ingest import atlas_of_outline, parse_outline

    outline = parse_outline(OUTLINE.encode())
    atlas = atlas_of_outline(outline)
    texts = {
        "mine.txt": OUTLINE.encode(),
        "mine.md": b"# Small\n## Alpha\n- Mode Collapse\n  - Signs\n- Latent Space\n## Beta\n- Attention\n",
        "mine.json": to_json(atlas),
        "mine.graphml": to_graphml(atlas),
    }
    path = tmp_path / name
    path.write_bytes(texts[name])
    report = build(settings, file_source(path))
    assert read_atlas(report.snapshot.folder) == atlas
    assert open_service(settings).search("mode collapse").hits[0].topic.id == "alpha/mode-collapse"


def test_the_shipped_atlas_survives_export_and_import(built_home: Path) -> None:
    service = open_service(Settings(home=built_home))
    atlas = service.opened.atlas()
    assert from_json(service.export("json")) == atlas


KILLED = """
import os, signal, sys
from pathlib import Path
from service import Settings
from service.build import build
home, corpus, stage = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def die(heard, fraction):
    if heard.startswith(stage):
        os.kill(os.getpid(), signal.SIGKILL)

build(Settings(home=home, corpus=corpus), progress=die)
"""


@pytest.mark.parametrize("stage", ["Reading", "Preparing", "Embedding", "Writing"])
def test_a_kill_during_a_build_leaves_the_old_atlas_serving(settings: Settings, stage: str) -> None:
    old = build(settings).snapshot.manifest.id
    written(settings).write_text("- id: alpha/mode-collapse\n  summary: Other words altogether.\n")
    command = [sys.executable, "-c", KILLED, str(settings.home), str(settings.corpus), stage]
    killed = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    service = open_service(settings)
    assert service.opened.id == old
    assert service.store.topic("alpha/mode-collapse").summary.startswith("A generator")
    assert build(settings).changed
    assert open_service(settings).store.topic("alpha/mode-collapse").summary == "Other words altogether."
