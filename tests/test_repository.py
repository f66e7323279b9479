"""The repository's own promises: pins, table of contents, citations, versions."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sftgan.companion.data.registry import REGISTRY
from sftgan.companion.recording import runner
from sftgan.companion.study.profile import load_profile

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
PAGES = [ROOT / "index.md", *sorted((ROOT / "book").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *[chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]]


def texts() -> dict[str, str]:
    """Prose by page; of notebooks, their Markdown cells."""
    prose = {page.name: page.read_text() for page in PAGES}
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        prose[notebook.name] = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return prose


def test_environment_yml_equals_the_lock():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(d["pip"] for d in dependencies if isinstance(d, dict))
    assert pip == [*LOCK, "-e ."]


def requirements(*extras: str) -> list[Requirement]:
    """What the package, or some of its extras, need, but for other extras of it."""
    texts = [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    wanted = map(Requirement, texts or PROJECT["dependencies"])
    return [requirement for requirement in wanted if requirement.name != "sftgan"]


# imported where they are used, with a sentence where they are missing; papermill brings three of them
OPTIONAL = {
    "captum", "efficientnet_lite_pytorch", "jupyter_client", "kagglehub", "nbclient", "nbformat", "papermill",
    "sacrebleu", "statsmodels", "timm",
}  # fmt: skip


@pytest.mark.parametrize("wing", ["library", "companion"])
def test_every_import_of_the_package_is_a_declared_dependency(wing):
    """A package that happens to be installed hides a missing one."""
    extras = ["book"] if wing == "companion" else []
    everything = {canonicalize_name(r.name) for r in requirements(*PROJECT["optional-dependencies"])}
    by_papermill = {"nbclient", "nbformat", "jupyter_client"}
    assert {canonicalize_name(name) for name in OPTIONAL - by_papermill} <= everything
    wanted = [*requirements(), *(requirements(*extras) if extras else [])]
    declared = {canonicalize_name(requirement.name) for requirement in wanted}
    owners = packages_distributions()
    for module in sorted((ROOT / "sftgan").rglob("*.py")):
        if ("companion" in module.parts) != (wing == "companion"):
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            tops = {name.partition(".")[0] for name in names}
            for name in tops - sys.stdlib_module_names - {"sftgan"} - OPTIONAL:
                ours = {canonicalize_name(owner) for owner in owners[name]}
                assert declared & ours, f"{module.relative_to(ROOT)} imports {name}"


LOADED = """
import sys, torch, sftgan
sftgan.layer_cams(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2)),
                  torch.rand(1, 3, 8, 8))
print(*sorted(name for name in sys.modules if name.startswith("sftgan")))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_layer_cams_loads_the_core_and_nothing_else():
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    ours, all_of_them = map(str.split, run.stdout.splitlines())
    assert set(ours) == {
        "sftgan", "sftgan.cams", "sftgan.cams.gradcam", "sftgan.cams.model_state", "sftgan.cams.taps",
        "sftgan.cams.targets", "sftgan.errors",
    }  # fmt: skip
    assert not {"lightning", "lightning_fabric", "pandas", "matplotlib", "seaborn", "PIL"} & set(all_of_them)


def test_every_line_of_the_lock_is_a_pin():
    for line in LOCK:
        assert [s.operator for s in Requirement(line).specifier] == ["=="], line


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_lock_satisfies_every_dependency(machine):
    pins = {}
    for line in LOCK:
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"platform_machine": machine}):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice on {machine}"
            pins[name] = next(iter(pin.specifier)).version
    extras = set(PROJECT["optional-dependencies"]) - {
        "data"
    }  # kagglehub is installed by whoever has an account
    for wanted in [*requirements(), *requirements(*extras)]:
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)], prereleases=True), wanted
    cuda = [name for name in pins if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert bool(cuda) == (machine == "x86_64")


def test_toc_lists_every_page_and_notebook_once():
    listed = sorted(toc_files())
    there = [str(p.relative_to(ROOT).with_suffix("")) for p in [*PAGES, *NOTEBOOKS]]
    assert listed == sorted(there)


def test_citations_are_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(.+),$", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    for name, text in texts().items():
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
            assert {key.strip() for key in keys.split(",")} <= known, f"{name}: {keys}"
    for name, entry in REGISTRY.items():
        assert entry.reference in known, name


def test_the_data_page_says_what_the_registry_has():
    page = (ROOT / "book" / "data.md").read_text().partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", page, re.MULTILINE)
    words = {
        "embedded": "the packages",
        "folder": "folder",
        "torchvision": "torchvision",
        "kagglehub": "Kaggle",
    }
    there = {name: {source for source, word in words.items() if word in text} for name, text in rows}
    assert there == {name: set(entry.sources) for name, entry in REGISTRY.items()}


def test_the_data_page_says_which_folders_the_profile_cpu_reads():
    page = (ROOT / "book" / "data.md").read_text().partition("## Your own folder")[2]
    said = dict(re.findall(r"^\| `(\w+)` \| `([\w-]+)`", page, re.MULTILINE))
    cpu = load_profile("cpu")
    used = {pair.dataset: pair for pair in cpu.extra} | cpu.similar | cpu.dissimilar | {"coco": cpu.captions}
    folders = {name: s for name, s in used.items() if s.source == "folder"}
    assert said == {name: s.folder or name for name, s in folders.items()}
    for name, s in folders.items():
        assert s.label, f"{name}: say what the subset is, as results must never bear a full data set's name"
        assert s.label.partition(" (")[2].removesuffix(")") in page, f"{name}: what it held"


def test_the_example_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    photograph, own = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(photograph, names)
    assert names["maps"].shape == (1, 300, 451)
    assert 0 <= names["maps"].min() < names["maps"].max() <= 1
    assert plt.imread("map.png").shape == (300, 3 * 451 + 16, 3)
    exec(own, names)
    assert names["maps"].shape == (2, 224, 224)
    assert 0 <= names["maps"].min() <= names["maps"].max() <= 1
    assert names["cams"].maps.shape == (2, 53, 224, 224)
    assert names["averages"].shape == (2, 8, 224, 224)


def test_every_figure_has_an_alternative_text():
    for name, text in texts().items():
        for figure in re.findall(r"^```\{figure\}.*?^```", text, re.MULTILINE | re.DOTALL):
            assert re.search(r"^:alt: .{20,}", figure, re.MULTILINE), f"{name}: {figure}"


def test_every_figure_of_a_notebook_has_a_name_a_caption_and_an_alternative_text():
    names = []
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text())["cells"]:
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                shown = cell["metadata"].get("mystnb", {})
                names.append(shown["figure"]["name"])
                assert len(shown["figure"]["caption"]) > 20, names[-1]
                assert re.search(r"\w+ \w+ \w+ \w+", shown["image"]["alt"]), names[-1]
    assert len(names) > 30 and len(set(names)) == len(names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_of_a_notebook_are_those_of_its_code(notebook):
    """Whoever edits a code cell records the notebook again: `make record PROFILE=smoke`."""
    recorded = json.loads(notebook.read_text())
    assert recorded["metadata"]["sftgan"]["code"] == runner.code_digest(recorded["cells"])


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = re.search(r"^## ([\d.]+\d)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == version("sftgan") == citation["version"] == changes[1]


def test_the_first_code_cell_of_every_notebook_is_its_parameters():
    for notebook in NOTEBOOKS:
        cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
        assert "parameters" in cells[0]["metadata"].get("tags", []), notebook.name
        assert 'profile = "smoke"' in "".join(cells[0]["source"]), notebook.name
        assert not any("injected-parameters" in c["metadata"].get("tags", []) for c in cells), notebook.name
