"""A run written to files: what is in them, and that they stand alone."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from demos import Outcome, find_demo
from demos.contract import Bars, Claim, Figure, Heatmap, Images, Lines, Metric, Result, Scatter, Table
from ui.report import NotWritable, png_of, report_html, write_report

FIGURES: tuple[Figure, ...] = (
    Lines("Loss", x="step", y="nats", at=[1, 10, 100], series={"train": [3, 2, 1], "test": [3, 2.5, 2.4]}, log="x"),
    Scatter("Cloud", x="x", y="y", series={"data": [(n / 100, n % 7) for n in range(6_000)]}),
    Bars("Counts", x="mode", y="samples", labels=["a", "b"], series={"GAN": [1, 5], "data": [3, 3]}),
    Heatmap("Weights", x="key", y="query", values=[[0.1, 0.9], [0.5, 0.5]], row_labels=["it", "cat"]),
    Images("Digits", [[[[0.0, 1.0], [1.0, 0.0]]] * 3] * 2, row_labels=["real", "fake"]),
)  # fmt: skip
OUTCOME = Outcome(
    demo_id="gaussian-kl",
    title="KL <of> Gaussians",
    params={"samples": 2000},
    result=Result(
        metrics=[Metric("kl", 1.25, "nats")],
        claims=[Claim("Closed form & estimate agree", 0.01, "<=", 0.05), Claim("Never", 2.0, "<=", 1.0)],
        figures=FIGURES,
        tables=[Table("Rows", ["name", "works"], [["a<b", True]])],
    ),
    cpu_seconds=1.5,
    wall_seconds=2.0,
    peak_bytes=2**30,
    code_hash="0" * 64,
    cached=False,
)


class Page(HTMLParser):
    """Texts, alternative texts and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.alternatives: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        assert tag not in {"script", "iframe", "link"}
        if tag == "img":
            self.alternatives.append(named["alt"] or "")
        self.addresses += [value for name, value in named.items() if name in {"src", "href"} and value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_page_tells_all_of_a_run_and_loads_nothing() -> None:
    page = Page(report_html(OUTCOME, find_demo("gaussian-kl")))
    text = " ".join(page.texts)
    for said in ("KL <of> Gaussians", "Holds: Closed form & estimate agree:", "Not reached in this run: Never:", "a<b"):
        assert said in text
    assert "genatlas demo run gaussian-kl --param samples=2000" in text
    assert "def run(params: Params" in text
    assert [alternative.split(":")[0] for alternative in page.alternatives] == [figure.title for figure in FIGURES]
    assert all(address.startswith("data:image/") for address in page.addresses)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.kind)
def test_every_kind_of_figure_becomes_a_picture_that_shows_something(figure: Figure) -> None:
    with Image.open(io.BytesIO(png_of(figure))) as picture:
        assert min(picture.size) >= 24
        colours = picture.convert("RGB").getcolors(maxcolors=10**6)
        assert colours is not None
        assert len(colours) > 1


def test_a_folder_gets_every_file_and_a_name_with_a_suffix_that_file_alone(tmp_path: Path) -> None:
    written = write_report(OUTCOME, None, tmp_path / "new" / "run")
    pictures = [f"figure-{n}.png" for n in range(1, 6)]
    assert sorted(file.name for file in written) == [*pictures, "report.html", "result.json"]
    assert json.loads((tmp_path / "new" / "run" / "result.json").read_bytes())["result"]["metrics"][0]["value"] == 1.25
    assert write_report(OUTCOME, None, tmp_path / "run.html") == [tmp_path / "run.html"]
    assert re.match(r"<!doctype html>", (tmp_path / "run.html").read_text())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "run.html"]


def test_a_folder_that_is_a_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(NotWritable, match="taken cannot be written: File exists"):
        write_report(OUTCOME, None, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
