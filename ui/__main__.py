"""`python -m ui [Streamlit options]`: starts the app with what its first page needs already loaded."""

import sys
from pathlib import Path


def main() -> None:
    """Start Streamlit on ui/app.py; its settings stand in ui/.streamlit/config.toml."""
    import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport] (Streamlit loads it in front of the first visitor)
    from streamlit.web import cli

    import service  # noqa: F401  # pyright: ignore[reportUnusedImport] (likewise)

    sys.argv = ["streamlit", "run", str(Path(__file__).resolve().parent / "app.py"), *sys.argv[1:]]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
