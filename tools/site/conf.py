"""Sphinx's configuration: the documents as a site that needs no server and asks no other host for anything."""

project = "mvm"
author = "the mvmnix authors"
html_title = "mvm"
language = "en"
root_doc = "index"
extensions = ["myst_parser"]
myst_heading_anchors = 4
templates_path = ["templates"]
#: Fragments with "…" in them are shown without colours; that each page is listed is a test's business.
suppress_warnings = ["misc.highlighting_failure", "toc.not_included"]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("search.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_permalinks_icon = "#"
#: A sidebar with the list of pages would be most of these.
html_sidebars = {
    pages: ["sidebar/brand.html", "sidebar/search.html"] for pages in ("reference/reason-codes/*", "adr/*")
}
