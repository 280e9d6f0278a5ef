"""How Sphinx builds the documentation: ``sphinx-build -W --keep-going -n docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The package of this checkout is described, whatever is installed.
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import resumable  # noqa: E402

project = "resumable"
author = "The resumable developers"
copyright = author
release = version = resumable.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "generated", "outside"]
exclude_patterns = ["_ext"]
myst_heading_anchors = 4
# What lies beside docs/ in the repository is linked to where the source is.
source_url = "https://github.com/twisted-resumable/resumable"

# Quotes and dashes are shown as they have to be typed.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
# The names of other packages are not looked up: a build needs no network.
nitpick_ignore_regex = [("py:.*", r"(?!resumable\.client\.[A-Z]).*")]

html_theme = "furo"
html_title = "resumable"
html_copy_source = False
html_show_sphinx = False
