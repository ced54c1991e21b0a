"""The documentation site: ``scripts/docs`` builds it from ``src/reasonedit/docs``, with every warning an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reasonedit

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # no bars in the notebooks
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

project = "ReasonEdit"
author = "The ReasonEdit authors"
copyright = "The ReasonEdit authors, Apache-2.0"
version = release = reasonedit.__version__

extensions = [
    "cli_reference",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "ReasonEdit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
smartquotes_action = "D"  # dashes alone: quotes stay as they are typed

# Markdown: links between pages and to headings are checked.
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

# Notebooks run anew with each build; one that fails, fails the build.
nb_execution_mode = os.environ.get("REASONEDIT_NOTEBOOKS", "force")
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # bars and warnings of other libraries

# The reference of Python, from the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"http://localhost.*"]
