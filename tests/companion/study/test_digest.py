"""What counts as the code of a stage."""

from types import SimpleNamespace

import pytest

from sftgan.companion.chapters import students
from sftgan.companion.study import digest
from sftgan.companion.study.digest import code_digest
from sftgan.gan import training

SOURCES = {
    "__init__": "",
    "a": '''"""Computes."""
from sftgan import b
from sftgan.deep.e import EARLIER
from sftgan.deep.c import LIMIT, Shape, helper as h

SCALE = 2

def compute(config: dict) -> int:
    """Compute."""
    from sftgan.deep import d
    if config is None:
        raise ValueError(f"no config: {config}")
    return b.g(h(config), LIMIT) + d.late() + Shape().area() + EARLIER(config)

def unrelated():
    return SCALE
''',
    "b": "def g(x, limit):\n    return inner(x)\n\ndef inner(x):\n    return x\n\ndef other():\n    return 1\n",
    "deep/__init__": "",
    "deep/c": "LIMIT = 3\n\ndef helper(x):\n    return x\n\nclass Shape:\n    def area(self):\n        return 1\n",
    "deep/e": "def early(config):\n    return 6\n\nEARLIER = dict(compute=early)\n",
    "deep/d": "def late():\n    return 4\n\nprint\n",
}
COMPUTE = SimpleNamespace(__module__="sftgan.a", __name__="compute")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the place of ours."""
    for name, source in SOURCES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(digest, "resources", SimpleNamespace(files=lambda name: tmp_path))
    digest._is_module.cache_clear()
    yield tmp_path
    digest._is_module.cache_clear()


def edit(package, module, old, new):
    path = package / f"{module}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("a", "+ d.late()", "- d.late()"),
        ("b", "return inner(x)", "return -inner(x)"),
        ("b", "    return x\n\n", "    return 2 * x\n\n"),  # named by what is named
        ("deep/c", "LIMIT = 3", "LIMIT = 4"),
        ("deep/c", "return x", "return x + 1"),  # imported under another name
        ("deep/c", "return 1", "return 2"),  # the method of a class
        ("deep/d", "return 4", "return 5"),  # imported in the function
        ("deep/e", "return 6", "return 7"),  # an earlier stage
        ("deep/d", "print\n", "print()\n"),  # runs when the module is imported
    ],
)
def test_code_that_can_run_counts(package, module, old, new):
    before = code_digest(COMPUTE)
    edit(package, module, old, new)
    assert code_digest(COMPUTE) != before


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("a", "SCALE = 2", "SCALE = 5"),
        ("a", "return SCALE", "return 7"),
        ("b", "return 1", "return 2"),
        ("a", '"""Compute."""', '"""Compute, in other words."""'),
        ("a", '"""Computes."""', '"""Other words."""'),
        ("a", "config: dict", "config: list"),
        ("a", "no config: {config}", "give a config"),
        ("b", "return inner(x)", "return (\n        inner(x)  # a remark\n    )"),
    ],
)
def test_code_that_cannot_change_the_result_does_not_count(package, module, old, new):
    before = code_digest(COMPUTE)
    edit(package, module, old, new)
    assert code_digest(COMPUTE) == before


def test_the_same_code_in_another_module_is_another_digest(package):
    (package / "z.py").write_text(SOURCES["a"])
    assert code_digest(SimpleNamespace(__module__="sftgan.z", __name__="compute")) != code_digest(COMPUTE)


def reached(function) -> set[str]:
    """Modules whose definitions count for a function."""
    seen, todo = set(), [(function.__module__, function.__name__)]
    while todo:
        place = todo.pop()
        if place not in seen:
            seen.add(place)
            todo += digest._read(digest._source(place[0], function), place[0]).reached(place[1])
    return {module for module, _ in seen}


def test_a_training_reaches_its_networks_and_its_files():
    modules = reached(training.train_gan)
    assert {"sftgan.gan.networks", "sftgan.files", "sftgan.errors"} <= modules
    assert not {m for m in modules if "companion" in m or m in ("sftgan.cli", "sftgan.gan.weights")}


def test_stages_know_the_code_that_they_run():
    assert "sftgan.companion.study.methods" in reached(students.TAUGHT.compute)
    assert {"sftgan.companion.study.methods", "sftgan.gan.training"} <= reached(students.STUDENT.compute)
    assert "sftgan.gan.training" in reached(students.DRAWN.compute)
