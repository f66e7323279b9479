"""Sphinx extension: the type of targets, a long union, is shown by its name and links to its description."""

from sphinx.util.typing import stringify_annotation

from sftgan.cams.targets import Targets

NAME = "sftgan.cams.targets.Targets"


def shorten(app, what, name, obj, options, signature, returns):
    """Name the type where a signature spells it out."""
    spelt_out = stringify_annotation(Targets, "smart")
    return signature and signature.replace(spelt_out, f"~{NAME}"), returns


def resolve(app, env, node, contnode):
    """Find the type, which is listed as data and wanted as a class."""
    if node["reftarget"] != NAME:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "data", NAME, node, contnode)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
