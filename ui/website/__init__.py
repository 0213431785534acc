"""The atlas as a static site: pages that any file server hands out, with a search that runs in the browser."""

from ui.website.folder import FolderRefused
from ui.website.site import write_site

__all__ = ["FolderRefused", "write_site"]
