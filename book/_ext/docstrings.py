"""Sphinx extension: the package's docstrings, which are prose with little mark-up, as reStructuredText.

`name` becomes code, and a link where it names something that the package has; so does a parameter before a colon, and
*word* is stressed. A section such as "Parameters" becomes fields; indented lines, such as formulas, stay as they are.
All other characters mean themselves.
"""

import inspect
import re

from sphinx.util.typing import stringify_annotation

import sftgan
from sftgan.targets import Targets

SECTIONS = {"Parameters": "param", "Raises": "raises"}
MARKED = r"`[^`]+`|\*\w+\*|\bInputError\b"
TARGETS = "sftgan.targets.Targets"


def full_name(word, module):
    """The name by which the reference lists what a docstring of `module` calls `word`; None for anything else."""
    parts = word.removeprefix("sftgan.").split(".")
    for found in (module, sftgan):
        for part in parts:
            found = getattr(found, part, None)
        if found is Targets and parts[-1] == "Targets":
            return TARGETS
        if (inspect.isclass(found) or inspect.isroutine(found)) and found.__module__.startswith("sftgan."):
            public = found.__qualname__.partition(".")[0] in sftgan.__all__
            return f"{'sftgan' if public else found.__module__}.{found.__qualname__}"
    return None


def prose(line, module, parameters):
    """A line of text in which only what is marked has a meaning."""
    before_colon = rf"\b(?:{'|'.join(parameters) or '$.'})\b(?=(?:, \w+)*:)"
    pieces = []
    for k, piece in enumerate(re.split(f"({MARKED}|{before_colon})", line)):
        word = piece.strip("`")
        if k % 2 == 0:
            pieces.append(re.sub(r"([*|\\`]|_\b)", r"\\\1", piece))
        elif piece.startswith("*"):
            pieces.append(piece)
        elif word not in parameters and (target := full_name(word, module)):
            pieces.append(f"\\ :py:obj:`{word} <{target}>`\\ ")
        else:
            pieces.append(f"\\ ``{word}``\\ ")
    return "".join(pieces)  # "\\ " is nothing, and lets a letter follow


def translate(app, what, name, obj, options, lines):
    """Rewrite a docstring in place."""
    module = inspect.getmodule(getattr(obj, "fget", obj)) or sftgan
    try:
        parameters = set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        parameters = set()
    made, field, example = [], None, False
    for before, line in zip(["", *lines], lines, strict=False):
        example = line.startswith(">>>") or (example and line != "")
        if re.fullmatch(r"-{3,}", line) and before in SECTIONS:
            field, made[-1] = SECTIONS[before], ""
        elif example:
            made.append(line)
        elif field and (entry := re.match(r"(\w+) : (.+)", line)):
            made.append(f":{field} {entry[1]}: {prose(entry[2], module, parameters)}")
        elif line.startswith("    ") and not field:
            made += [line] if before else [".. code-block:: text", "", line]
        else:
            made.append(prose(line, module, parameters))
    lines[:] = made


def shorten(app, what, name, obj, options, signature, returns):
    """Name the type of targets, which is a long one."""
    spelt_out = stringify_annotation(Targets, "smart")
    return signature and signature.replace(spelt_out, f"~{TARGETS}"), returns


def resolve(app, env, node, contnode):
    """Find the type of targets, which is listed as data and wanted as a class."""
    if node["reftarget"] != TARGETS:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "data", TARGETS, node, contnode)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", translate)
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
