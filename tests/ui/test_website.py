"""The static site: its files, without a browser. tests/browser/test_site.py opens it in one."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rdflib import RDF, SKOS, Graph, URIRef

from graph import Atlas, Reference
from service import DemoInfo
from tests.conftest import PUBLISHED, ROOT, Genatlas
from tests.graph.atlases import ATLAS
from tests.ui.site_pages import SitePage
from tests.ui.test_theme import contrast, rgb
from ui.website import FolderRefused, text
from ui.website.contents import Contents, command
from ui.website.folder import replace_folder
from ui.website.site import site_files

pytestmark = pytest.mark.xdist_group("site")
ELBO = "topics/variational-autoencoders/training-objectives/elbo.html"
STYLE = (ROOT / "ui" / "website" / "assets" / "style.css").read_text(encoding="utf-8")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
MATH = re.compile(r"\$\$.+?\$\$|(?<!\\)\$[^$]+?(?<!\\)\$", re.DOTALL)

Pages = Mapping[str, SitePage]


@pytest.fixture(scope="module")
def pages(built_site: Path) -> Pages:
    """Every page of the shipped atlas's site, by its path."""
    return read_pages(
        {path.relative_to(built_site).as_posix(): path.read_bytes() for path in built_site.rglob("*.html")}
    )


def read_pages(files: Mapping[str, bytes]) -> Pages:
    return {path: SitePage(path, data.decode()) for path, data in files.items() if path.endswith(".html")}


def files_of(atlas: Atlas, base_url: str | None = None) -> dict[str, bytes]:
    demos = [DemoInfo(demo, None, ()) for demo in atlas.demos]
    return dict(site_files(Contents(atlas, demos), base_url))


# The whole site


def test_every_topic_comparison_and_demo_has_a_page(pages: Pages, genatlas: Genatlas) -> None:
    stats = json.loads(genatlas("stats", "--json").stdout)
    kinds = Counter(path.split("/")[0] for path in pages)
    assert kinds["topics"] == stats["topics"] + stats["foundations"]
    assert kinds["comparisons"] == stats["comparisons"]
    assert kinds["demos"] == stats["demos"]


def test_every_link_and_every_fragment_leads_somewhere(built_site: Path, pages: Pages) -> None:
    files = {path.relative_to(built_site).as_posix() for path in built_site.rglob("*") if path.is_file()}
    ids = {path: set(page.ids) for path, page in pages.items()}
    lost = [
        (page.path, address)
        for page in pages.values()
        for _, address in page.links
        if not address.startswith(("https://", "http://")) and not leads(page.target(address), files, ids)
    ]
    assert lost == []


def leads(target: tuple[str, str], files: set[str], ids: Mapping[str, set[str]]) -> bool:
    path, fragment = target
    return path in files and (not fragment or fragment in ids[path])


def test_nothing_is_fetched_from_elsewhere(built_site: Path, pages: Pages) -> None:
    for page in pages.values():
        fetched = [address for tag, address in page.links if tag != "a" and not address.startswith(f"{PUBLISHED}/")]
        assert not [address for address in fetched if re.match(r"[a-z]+:|/", address)], page.path
        assert {"img", "iframe", "object", "embed", "video", "audio"}.isdisjoint(page.tags)
    for asset in (built_site / "assets").glob("*.[jc]s*"):
        if asset.name != "search-data.js":
            code = asset.read_text(encoding="utf-8")
            assert not re.search(r"@import|https?:|XMLHttpRequest|sendBeacon", code), asset.name


def test_a_page_has_one_heading_a_title_a_language_and_landmarks(pages: Pages) -> None:
    for page in pages.values():
        assert page.tags.count("h1") == 1, page.path
        assert page.title.strip(), page.path
        assert page.attributes["html"] == {"lang": "en"}
        assert len(page.ids) == len(set(page.ids)), page.path
        for landmark in ("header", "nav", "main", "footer"):
            assert landmark in page.tags, page.path
        assert ("a", "#content") in page.links[:5]


def test_all_latex_became_mathml(pages: Pages, genatlas: Genatlas) -> None:
    """As many formulas as were written are drawn: one that cannot be read would be shown as its source."""
    shown = {path: page.tags.count("math") for path, page in pages.items()}
    written = {
        f"topics/{topic['id']}.html": len(MATH.findall(CODE.sub("", topic["detail"]))) + bool(topic["formula"])
        for topic in json.loads(genatlas("export", "--format", "json").stdout)["topics"]
    }
    assert sum(written.values()) > 8_000
    assert {path: shown[path] for path in written} == written


def test_the_head_says_in_json_ld_what_the_page_says(pages: Pages) -> None:
    for page in pages.values():
        document = json.loads(page.scripts[-1])
        assert document["@graph"], page.path
    graph = graph_of(pages[ELBO])
    concept = URIRef(f"{PUBLISHED}/{ELBO}")
    assert str(graph.value(concept, SKOS.prefLabel)) == "ELBO (Evidence Lower Bound)"
    linked = {
        *graph.objects(concept, SKOS.broader),
        *graph.objects(None, URIRef("https://schema.org/competencyRequired")),
    }
    assert len(linked) > 3
    for other in linked:
        assert str(other).removeprefix(f"{PUBLISHED}/") in pages


@pytest.mark.parametrize("kind", ["comparisons/", "demos/", "index"])
def test_the_json_ld_of_each_kind_of_page_names_the_page(pages: Pages, kind: str) -> None:
    page = next(page for path, page in pages.items() if path.startswith(kind))
    graph = graph_of(page)
    assert list(graph.objects(URIRef(f"{PUBLISHED}/{page.path}"), RDF.type))


def graph_of(page: SitePage) -> Graph:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ConjunctiveGraph is deprecated")  # of rdflib, by its own parser
        return Graph().parse(data=page.scripts[-1], format="json-ld", publicID=f"{PUBLISHED}/{page.path}")


def test_the_markdown_beside_a_page_links_to_markdown(built_site: Path, pages: Pages) -> None:
    reader = MarkdownIt()
    topics = sorted(path for path in pages if path.startswith("topics/"))
    for path in topics[::5]:
        beside = path.removesuffix(".html") + ".md"
        for address in addresses(reader.parse((built_site / beside).read_text(encoding="utf-8"))):
            if not address.startswith(("https://", "http://")):
                assert (built_site / SitePage(beside, "").target(address)[0]).is_file(), (beside, address)
    assert pages[ELBO].attributes["link"] is not None
    assert ("link", "elbo.md") in pages[ELBO].links


def addresses(tokens: list[Token]) -> list[str]:
    below = [address for token in tokens for address in addresses(token.children or [])]
    return [str(token.attrs["href"]) for token in tokens if token.type == "link_open"] + below


def test_llms_txt_and_the_sitemap_name_pages_by_where_they_are_published(built_site: Path, pages: Pages) -> None:
    lines = (built_site / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert next(line for line in lines[1:] if line).startswith("> ")
    found = re.findall(r"\]\(([^)]*)\)", "\n".join(lines))
    assert len(found) == 13 + 3
    assert all((built_site / address.removeprefix(f"{PUBLISHED}/")).is_file() for address in found)
    sitemap = (built_site / "sitemap.xml").read_text(encoding="utf-8")
    assert {address.removeprefix(f"{PUBLISHED}/") for address in re.findall("<loc>(.*?)</loc>", sitemap)} == set(pages)


def test_a_demo_page_has_the_demos_claims_parameters_and_code(
    pages: Pages, genatlas: Genatlas, built_site: Path
) -> None:
    shown = json.loads(genatlas("demo", "show", "gaussian-kl", "--json").stdout)
    page = (built_site / "demos" / "gaussian-kl.html").read_text(encoding="utf-8")
    for parameter in shown["parameters"]:
        assert f"<code>{parameter['name']}</code>" in page
    words = re.sub(r"\s+", " ", " ".join(pages["demos/gaussian-kl.html"].prose))
    for claim in shown["claims"]:
        assert text.plain(claim["statement"]) in words
    code = genatlas("demo", "source", "gaussian-kl").stdout
    assert text.code(code) in page
    assert re.sub("<[^>]*>", "", text.code(code)) == text.escape(code)


# Any atlas


def test_the_same_atlas_gives_the_same_bytes_and_no_sitemap_without_an_address() -> None:
    assert files_of(ATLAS) == files_of(ATLAS)
    assert "sitemap.xml" not in files_of(ATLAS)
    assert "canonical" not in files_of(ATLAS)["topics/gan.html"].decode()


def test_an_outline_alone_makes_a_site() -> None:
    bare = Atlas("", tuple(replace(topic, demo=None, minutes=None) for topic in ATLAS.topics))
    pages = read_pages(files_of(bare))
    assert len(pages) == len(bare.topics) + 5
    assert pages["index.html"].title == "GenAtlas"


SPITE = st.text(st.sampled_from("<>&\"'`$\\{}[]()|*_/ \n;:aé∑"), max_size=40)


@settings(max_examples=30)
@given(st.lists(SPITE, min_size=8, max_size=8), st.sampled_from(["javascript:alert(1)", "data:text/html,x", ""]))
def test_no_text_of_an_atlas_becomes_markup(words: list[str], link: str) -> None:
    """Every page stays well-formed, runs no script but the search's, and leads nowhere but to pages and works."""
    title, summary, detail, formula, alias, why, name, choose = (word + "<script>x</script>" for word in words)
    topics = tuple(
        replace(
            topic, title=title, title_path=(*topic.title_path[:-1], title), summary=summary, detail=detail,
            formula=formula, aliases=(alias,), outcomes=(why,), misconception=name, refs=("arjovsky2017",),
        )
        for topic in ATLAS.topics
    )  # fmt: skip
    atlas = replace(
        ATLAS,
        topics=topics,
        prerequisites=tuple(replace(edge, why=why) for edge in ATLAS.prerequisites),
        comparisons=tuple(replace(each, question=name, choose=choose, same=detail) for each in ATLAS.comparisons),
        references=(Reference("arjovsky2017", title, (alias,), url=link),),
    )
    files = files_of(atlas)
    for page in read_pages(files).values():
        assert len(page.scripts) == (2 if page.path == "search.html" else 1)
        json.loads(page.scripts[-1])
        for tag, address in page.links:
            kept = address.startswith(("https://", "http://")) and tag == "a"
            assert kept or page.target(address)[0] in files, (page.path, address)
    data = files["assets/search-data.js"].decode()
    assert json.loads(data.removeprefix("genatlasTopics = ").removesuffix(";\n"))[0][1] == title


def test_prose_keeps_its_money_and_shows_its_code() -> None:
    assert text.prose("It costs $5 or $6, D* = p, `a<b` and *so*\non.") == (
        "It costs $5 or $6, D* = p, <code>a&lt;b</code> and <em>so</em> on."
    )
    assert text.plain("`x` and *y*") == "x and y"


def test_a_heading_of_a_text_stands_below_those_of_its_page() -> None:
    assert text.markdown("# One\n\n## Two") == "<h3>One</h3>\n<h4>Two</h4>\n"


def test_a_command_can_be_pasted() -> None:
    assert (
        command("d", {"on": True, "name": "two words"})
        == "genatlas demo run d --param on=true --param 'name=two words'"
    )


# The folder


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    site = tmp_path / "deep" / "site"
    replace_folder(site, [("a/b.html", b"1"), ("c.html", b"2")])
    assert replace_folder(site, [("c.html", b"3")]) == (1, 1)
    assert {path.name for path in site.iterdir()} == {"c.html", "genatlas-site.json"}
    assert (site / "c.html").read_bytes() == b"3"
    assert [path.name for path in site.parent.iterdir()] == ["site"]


@pytest.mark.parametrize("foreign", ["notes.txt", "a/mine.html", ".git/HEAD"])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, foreign: str) -> None:
    site = tmp_path / "site"
    replace_folder(site, [("a/b.html", b"1")])
    (site / foreign).parent.mkdir(exist_ok=True)
    (site / foreign).write_text("mine")
    with pytest.raises(FolderRefused, match=foreign):
        replace_folder(site, [("a/b.html", b"2")])
    assert (site / "a" / "b.html").read_bytes() == b"1"
    assert (site / foreign).read_text() == "mine"


def test_what_is_no_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(FolderRefused, match="no folder"):
            replace_folder(tmp_path / name, [("a", b"")])
    (tmp_path / "real" / "genatlas-site.json").write_text("{}")
    with pytest.raises(FolderRefused, match="cannot be read"):
        replace_folder(tmp_path / "real", [("a", b"")])


def test_an_export_that_fails_leaves_the_old_site(tmp_path: Path) -> None:
    site = tmp_path / "site"
    replace_folder(site, [("a.html", b"1")])

    def breaks():
        yield "a.html", b"2"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_folder(site, breaks())
    assert (site / "a.html").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


# The look


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(theme: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if theme == "light" else dark))
    words = {"ink", "soft", "accent", "star", *(name for name in colours if name.startswith("code-"))}
    assert len(words) == 9
    for name in words:
        for back in ("paper", "panel"):
            assert contrast(rgb(colours[name]), rgb(colours[back])) >= 4.5, (name, back)
    assert contrast(rgb(colours["paper"]), rgb(colours["accent"])) >= 4.5  # a button
    for name in ("before", "after", "compare", "same"):
        assert contrast(rgb(colours[name]), rgb(colours["paper"])) >= 3, name
