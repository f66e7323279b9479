"""Sphinx extension: no inline script twice on a page.

Sphinx writes the constants of sphinx-thebe twice: they are known to the builder (file name None) and to the registry
(file name ""). A browser then reports that they have been declared already.
"""


def once(app, pagename, templatename, context, doctree):
    """Keep the first of equal scripts."""
    kept = {}
    for script in context["script_files"]:
        kept.setdefault((script.filename or "", script.attributes.get("body")), script)
    context["script_files"] = list(kept.values())


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", once, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
