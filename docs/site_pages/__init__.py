"""A Sphinx extension: the pages of the site that are generated, and links from the names in the pages to the API."""

from pathlib import Path

from sphinx.application import Sphinx

from site_pages import api, commands, docstrings, formats, links


def write_pages(app: Sphinx) -> None:
    """Write `reference/generated`. A page that is the same as before is not touched, nor read anew by Sphinx."""
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    pages = {**api.pages(), **commands.pages(), **formats.pages()}
    for old in folder.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    docstrings.connect(app)
    links.connect(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
