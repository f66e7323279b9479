"""Sphinx extension: no inline script twice on a page.

sphinx-thebe adds its constants to the builder and to the registry, both of which Sphinx writes out; a browser then
reports that they have been declared already.
"""


def once(app, pagename, templatename, context, doctree):
    """Keep the first of equal scripts."""
    kept = {}
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        kept.setdefault((str(getattr(script, "filename", script)), attributes.get("body")), script)
    context["script_files"] = list(kept.values())


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", once, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
