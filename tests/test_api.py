"""The reference in the book lists what is public, what it lists is documented, and the types are right."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sftgan

ROOT = Path(__file__).parents[1]
PAGES = "\n".join(page.read_text() for page in sorted((ROOT / "book").glob("api*.md")))
DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n((?:   :.*\n)*)", re.MULTILINE)
SIDE = r"(?:\.\.\.|\w+(?: [-+*] \w+)*)"
SHAPE = re.compile(rf"\({SIDE}(?:,|(?:, {SIDE})+)\)|\(\.\.\.\)")  # (B, 3, H, W), (n,), (epochs + 1, n), (...)


def found(name: str) -> object:
    """The object of a full name."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


def listed() -> dict[str, object]:
    """What the pages list, by the names under which they list it."""
    names = {}
    for kind, name, options in DIRECTIVE.findall(PAGES):
        if kind != "module":
            names[name] = found(name)
        elif ":no-members:" not in options:
            (excluded,) = re.findall(r":exclude-members: (.*)", options) or [""]
            names |= {
                f"{name}.{own}": value
                for own, value in vars(importlib.import_module(name)).items()
                if getattr(value, "__module__", "") == name
                and not own.startswith("_")
                and own not in excluded.split(", ")
            }
    return {n: v for n, v in names.items() if inspect.isclass(v) or inspect.isroutine(v)}


LISTED = listed()


def methods(kind: type) -> dict[str, object]:
    """The public methods and properties that a class defines itself."""
    parts = {name: getattr(v, "fget", getattr(v, "__func__", v)) for name, v in vars(kind).items()}
    return {name: part for name, part in parts.items() if inspect.isfunction(part) and name[0] != "_"}


def test_the_pages_list_every_public_name_once():
    assert {f"sftgan.{name}" for name in sftgan.__all__} <= set(LISTED)
    objects = [id(value) for value in LISTED.values()]
    assert len(set(objects)) == len(objects)


@pytest.mark.parametrize("name", LISTED)
def test_what_is_listed_has_a_docstring(name):
    value = LISTED[name]
    text = inspect.cleandoc(value.__doc__ or "")
    assert len(text) > 20 and not text.startswith(f"{value.__name__}("), "dataclass makes one of its own"
    own = methods(value) if inspect.isclass(value) else {}
    without = [method for method in own if not own[method].__doc__ and method != "forward"]
    assert without == [], "the class describes `forward`, and nothing else"


@pytest.mark.parametrize("name", LISTED)
def test_whatever_takes_or_returns_tensors_says_their_shapes(name):
    value = LISTED[name]
    for own, part in {"": value, **(methods(value) if inspect.isclass(value) else {})}.items():
        types = map(str, inspect.get_annotations(part).values())
        if any("Tensor" in kind and "jaxtyping" not in kind for kind in types):
            assert SHAPE.search(f"{part.__doc__} {value.__doc__}"), f"{name} {own}"


def test_the_types_are_in_the_package_and_hold():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["sftgan"]
    assert (ROOT / "sftgan" / "py.typed").exists()
    assert project["tool"]["mypy"]["disallow_untyped_defs"]
    checked = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
