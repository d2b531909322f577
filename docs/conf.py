"""Settings of the documentation site: `make docs` builds it. What is generated for it, `extension` generates."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), str(ROOT / "python")]

from hierpool._version import __version__  # noqa: E402

project, author, version, release = "hierpool", "The hierpool authors", __version__, __version__
copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinxarg.ext",
    "extension",  # after autodoc, whose events it hears
]
exclude_patterns = [
    "extension",
    "templates",
    "gallery/**/*.py",
    "gallery/**/*.ipynb",
    "sg_execution_times.rst",
]
default_role = "code"

html_theme = "furo"
html_title = "hierpool"
templates_path = ["templates"]
html_static_path = ["static"]
html_favicon = "static/logo.svg"
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Without a network: `extension` puts MathJax into the site.
mathjax_path = "mathjax/MathJax.js"
mathjax2_config = {
    "config": ["TeX-AMS-MML_HTMLorMML-full.js"],
    "jax": ["input/TeX", "output/HTML-CSS"],
    "HTML-CSS": {
        "scale": 92,
        "availableFonts": [],
        "webFont": "STIX-Web",
        "imageFont": None,
        "linebreaks": {"automatic": True},
    },
    "tex2jax": {"processClass": "math", "ignoreClass": ".*", "inlineMath": [["\\(", "\\)"]]},
    "showMathMenu": False,
    "messageStyle": "none",
}

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings have types, shapes and dtypes
napoleon_use_ivar = True  # attributes of a class are documented once
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = [("Source", "notes_style")]

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
}
