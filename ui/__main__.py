"""`python -m ui [Streamlit options]`: starts the app with what its first visitor needs already loaded."""

import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread


def main() -> None:
    """Start Streamlit on ui/app.py; its settings stand in ui/.streamlit/config.toml."""
    import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport] (Streamlit loads it in front of the first visitor)
    from streamlit.web import cli

    Thread(target=_warm, name="warm", daemon=True).start()
    sys.argv = ["streamlit", "run", str(Path(__file__).resolve().parent / "app.py"), *sys.argv[1:]]
    sys.exit(cli.main())


def _warm() -> None:
    """Open the atlas, then its search: the first page does not wait for the first, nor the first question for both."""
    from graph import AtlasError
    from ui.session import service

    with suppress(AtlasError):  # each page says it to whoever visits it
        service().search("attention")


if __name__ == "__main__":
    main()
