"""Digest of the code that a function can run."""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

_PACKAGE = "sftgan"
_NOT_FOLLOWED = ("sftgan.companion.study.cache", "sftgan.companion.study.digest")
_Place = tuple[str, str]  # a module, and the name of a definition in it


def code_digest(function: Callable) -> str:
    """Digest a function and every definition of the package that it can reach by name.

    A definition counts if the function names it, or if a definition that counts names it. Layout, comments,
    docstrings, annotations and the texts of errors do not count: an edit to them computes nothing again.

    Parameters
    ----------
    function
        Function at the top level of a module, of the package or of another.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    home = function.__module__
    texts: dict[_Place, str] = {}
    modules: dict[str, _Module] = {}
    todo: list[_Place] = [(home, function.__name__)]
    while todo:
        place = todo.pop()
        if place in texts or place[0] in _NOT_FOLLOWED:
            continue
        if place[0] not in modules:
            modules[place[0]] = _read(_source(place[0], function), place[0])
        texts[place] = modules[place[0]].text(place[1])
        todo += modules[place[0]].reached(place[1])
    parts = [f"{module}.{name}\n{text}" for (module, name), text in sorted(texts.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _source(module: str, function: Callable) -> str:
    if module.partition(".")[0] != _PACKAGE:
        return Path(function.__code__.co_filename).read_text(encoding="utf-8")
    path = resources.files(_PACKAGE).joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")  # type: ignore[attr-defined]
    return file.read_text(encoding="utf-8")


class _Module:
    """Definitions of one module, and the definitions of the package that each of them names."""

    def __init__(self, source: str, name: str):
        self.name = name
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, _Place] = {}
        always = []
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported |= _imports(node)
            elif names := list(_bound(node)):
                for bound in names:
                    self.defined.setdefault(bound, []).append(_Bare().visit(node))
            elif not _is_text(node):
                always.append(_Bare().visit(node))
        self.defined[""] = always

    @functools.cache  # noqa: B019, as `_read` keeps the modules
    def text(self, name: str) -> str:
        return "\n".join(ast.dump(node) for node in self.defined.get(name, []))

    @functools.cache  # noqa: B019
    def reached(self, name: str) -> tuple[_Place, ...]:
        return tuple(dict.fromkeys(self._reached(name)))

    def _reached(self, name: str) -> Iterator[_Place]:
        yield self.name, ""
        for node in self.defined.get(name, []):
            imported = dict(self.imported)
            for part in ast.walk(node):
                if isinstance(part, ast.ImportFrom):
                    imported |= _imports(part)
            inside = {id(part.value) for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                    yield from self._named(part.value.id, part.attr, imported)
                elif isinstance(part, ast.Name) and id(part) not in inside:
                    yield from self._named(part.id, "", imported)

    def _named(self, name: str, attribute: str, imported: dict[str, _Place]) -> Iterator[_Place]:
        if name in self.defined:
            yield self.name, name
        elif name in imported:
            module, of = imported[name]
            whole = f"{module}.{of}"
            if not _is_module(whole):
                yield module, of
            elif attribute:
                yield whole, attribute


@functools.cache
def _read(source: str, name: str) -> _Module:
    return _Module(source, name)


@functools.cache
def _is_module(name: str) -> bool:
    path = resources.files(_PACKAGE).joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_name(f"{path.name}.py").is_file()  # type: ignore[attr-defined]


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, _Place]:
    if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != _PACKAGE:
        return {}
    return {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class _Bare(ast.NodeTransformer):
    """Remove what does not change a result."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call):
            node.exc.args = [
                part for part in node.exc.args if not isinstance(part, ast.Constant | ast.JoinedStr)
            ]
        return node

    def _without_docstring(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
        self.generic_visit(node)
        return node
