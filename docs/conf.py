"""The configuration of the site: `sphinx-build -W --keep-going docs docs/_build` makes it, strictly.

The pages are Markdown with links that work on GitHub, too. What is generated (the API, the commands, file formats, the
gallery) is written by the modules in `docs/site` when a build begins, and not committed.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from autotune.version import __version__  # noqa: E402  # after the path

project = "autotune"
copyright = "the authors of autotune"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design", "site_pages"]
root_doc = "index"
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
language = "en"
highlight_language = "none"
smartquotes = False  # texts in quotes are often values of arguments

myst_heading_anchors = 4
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"autotune {__version__}"
html_static_path = ["site_pages/static"]
html_css_files = ["site.css"]
html_theme_options = {"source_directory": "docs/", "navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
