"""Sphinx configuration: `python -m sphinx -W docs docs/_build/html`.

Works without a network. With DOCS_INTERSPHINX set, names from jax, optax and
flax become links, which fetches their inventories.
"""

import os

import optax_predict

project = "optax_predict"
author = "The optax_predict authors"
copyright = "The optax_predict authors"
version = release = optax_predict.__version__

extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.mathjax",
  "sphinx.ext.napoleon",
  "sphinx.ext.viewcode",
]
if os.environ.get("DOCS_INTERSPHINX"):
  extensions.append("sphinx.ext.intersphinx")
  intersphinx_mapping = {
    "flax": ("https://flax.readthedocs.io/en/latest/", None),
    "jax": ("https://docs.jax.dev/en/latest/", None),
    "optax": ("https://optax.readthedocs.io/en/latest/", None),
    "python": ("https://docs.python.org/3/", None),
  }

exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
# The pages quote code; they run none of it.
nb_execution_mode = "off"

autodoc_typehints = "none"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# A field of a NamedTuple is documented once, in its class.
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = "optax_predict"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_theme_options = {
  "repository_url": "https://github.com/optax-predict/optax_predict",
  "repository_branch": "main",
  "path_to_docs": "docs",
  "use_repository_button": True,
  "use_issues_button": True,
  "use_download_button": False,
  "show_toc_level": 2,
  # The sidebar has a search field already.
  "navbar_persistent": [],
}
