"""The whole site: every file by its path, written as one folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from graph.progress import Progress, no_progress
from service import Service
from ui.website import machines
from ui.website.contents import Contents
from ui.website.folder import replace_folder
from ui.website.pages import Pages, href_from, page_path

ASSETS = Path(__file__).with_name("assets")
AT_ROOT = {"index": "", "outline": "All topics", "comparisons": "Comparisons", "demos": "Demos", "search": "Search"}
"""The pages beside the folders of topics, comparisons and demos, with their titles; the start page has the atlas's."""


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What was written."""

    topics: int
    files: int
    bytes: int


def write_site(
    service: Service, folder: Path, base_url: str | None = None, progress: Progress = no_progress
) -> SiteReport:
    """Write the atlas as a static site into a folder, which is replaced whole.

    Links are relative; `base_url`, where the site will be published, adds canonical addresses and a sitemap. The same
    atlas and demos give the same bytes. Raises FolderRefused where the folder holds what an export did not write.
    """

    def files() -> Iterator[tuple[str, bytes]]:
        progress("Reading the demos", 0.0)
        yield from site_files(Contents.of(service), base_url, progress)

    count, size = replace_folder(folder, files())  # which looks at the folder first
    return SiteReport(len(service.store.topics()), count, size)


def site_files(
    contents: Contents, base_url: str | None = None, progress: Progress = no_progress
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site: path below its folder, and content."""
    base = base_url.rstrip("/") if base_url else None
    paths: list[str] = []
    for path, page in _html(contents, Pages(contents, base), progress):
        paths.append(path)
        yield path, page.encode()
    for topic in contents.atlas.topics:
        path = f"topics/{topic.id}.md"
        yield path, machines.topic_markdown(contents, topic, href_from("../" * path.count("/"))).encode()
    yield "llms.txt", machines.llms_txt(contents, lambda path: f"{base}/{path}" if base else path).encode()
    yield "assets/search-data.js", machines.search_data(contents)
    if base:
        yield "sitemap.xml", machines.sitemap(f"{base}/{quote(path)}" for path in paths).encode()
    for asset in sorted(ASSETS.iterdir()):
        yield f"assets/{asset.name}", asset.read_bytes()


def _html(contents: Contents, pages: Pages, progress: Progress) -> Iterator[tuple[str, str]]:
    for name, title in AT_ROOT.items():
        yield page_path("", name), pages.at_root(name, title or contents.title)
    topics = contents.atlas.topics
    for number, topic in enumerate(topics):
        progress("Writing topics", number / len(topics))
        yield page_path("topics", topic.id), pages.topic(topic)
    for comparison in contents.atlas.comparisons:
        yield page_path("comparisons", comparison.id), pages.comparison(comparison)
    for info in contents.demos.values():
        yield page_path("demos", info.demo.id), pages.demo(info)
