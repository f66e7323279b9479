"""The command `sftgan`: execute the notebooks in a profile, or record their outputs and figures."""

import ast
import ctypes
import hashlib
import json
import logging
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from sftgan.errors import InputError, check_name
from sftgan.provenance import ROOT, provenance

LAST_TO_TRAIN = "03_training_strategies"  # what it trains the later notebooks share
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Notebooks = Annotated[
    list[str] | None, typer.Argument(help="files, or names such as 04_dice; all of them when left out")
]
ProfileName = Annotated[str, typer.Option(help="smoke, cpu or paper")]
survey_app = typer.Typer(
    no_args_is_help=True, help="Ask people which of two maps they find better (section 6)."
)
app.add_typer(survey_app, name="survey")
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME VALUE", help="a notebook's parameter or a field of the profile"),
]


@app.callback()
def about() -> None:
    """The SFT-GAN companion: notebooks in, executed notebooks, pages and figures out."""


@app.command()
def run(
    notebooks: Notebooks = None,
    profile: ProfileName = "smoke",
    out: Annotated[Path, typer.Option(help="folder for the executed notebooks and the status page")] = Path(
        "_build/source"
    ),
    parameters: Parameters = None,
) -> None:
    """Execute notebooks into OUT/notebooks, and write OUT/book/status.md.

    Those behind 03, which trains, run side by side, as many as the profile has workers. A notebook whose executed
    copy was made from the same notebook, package, profile, parameters and requirements.lock is not executed again.
    """
    values = parse(parameters)
    jobs = plan(notebooks, profile, values, out)
    results = execute_all(jobs, _workers(profile, values))
    status = out / "book" / "status.md"
    if "executed" in results or not status.exists():
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(status_page(out, profile, values))
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def record(
    notebooks: Notebooks = None, profile: ProfileName = "smoke", parameters: Parameters = None
) -> None:
    """Execute notebooks and keep what they show, to be committed.

    Figures go to figures/PROFILE. Notebooks executed with their own default parameters are replaced by
    their executed copies, without times and other volatile metadata; the others stay as they are.
    """
    os.environ["SFTGAN_FIGURES"] = str(ROOT / "figures" / profile)
    values = parse(parameters)
    jobs = plan(notebooks, profile, values, ROOT / "_build" / "record" / profile)
    results = execute_all(jobs, _workers(profile, values), again=True)
    for job, result in zip(jobs, results, strict=True):  # at the end: until then the checkout is as committed
        if result == "executed" and not job.changed:
            keep(job.copy, job.notebook)
    raise typer.Exit(code=1 if "failed" in results else 0)


@survey_app.command("build")
def survey_build(
    out: Annotated[
        Path, typer.Argument(help="folder for survey.html, to send around, and key.json, to keep")
    ],
    profile: ProfileName = "smoke",
    questions: Annotated[int, typer.Option(min=1, help="how many")] = 20,
    task: Annotated[str, typer.Option(help="classification or captioning")] = "classification",
    first: Annotated[str, typer.Option(help="a method")] = "LSFT",
    second: Annotated[str, typer.Option(help="the method it is compared with")] = "Grad-CAM",
    title: Annotated[str, typer.Option(help="heading of the page")] = "Which heat map is better?",
    parameters: Parameters = None,
) -> None:
    """Write a survey of a run's maps as one page that works without a server."""
    from sftgan import experiments, survey
    from sftgan.study import Study

    study = Study(profile, **parse(parameters))
    asked = experiments.questions(study, (first, second), questions, task)
    survey.build(asked, out, title)
    print(f"{out / 'survey.html'}: send it around; {out / 'key.json'}: keep it for `sftgan survey analyse`")


@survey_app.command("analyse")
def survey_analyse(
    folder: Annotated[Path, typer.Argument(help="folder with the answers-*.json files")],
    key: Annotated[Path, typer.Option(help="what `sftgan survey build` wrote beside the page")] = Path(
        "key.json"
    ),
    votes: Annotated[Path | None, typer.Option(help="CSV file for the pooled votes")] = None,
) -> None:
    """Check and pool answers: what is wrong with which file, counts by question, tests, agreement."""
    from sftgan import survey

    pooled = survey.read_answers(folder, survey.read_key(key))
    if votes:
        pooled.votes.to_csv(votes, index=False)
    for line in survey.complaints(pooled):
        print(line)
    for line in survey.report(pooled):
        print(line)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Input that cannot be used ends in one sentence on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("SFTGAN_COMMAND", shlex.join(["sftgan", *arguments]))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # silences a warning of each kernel
    try:
        app(args=_join_pairs(arguments))
    except InputError as error:
        print(f"sftgan: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _join_pairs(arguments: list[str]) -> list[str]:
    """Turn `-p NAME VALUE`, as papermill has it, into the `-p NAME=VALUE` that typer can take."""
    joined, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "-p" and len(rest) >= 2 and "=" not in rest[0]:
            joined.append(f"{rest.pop(0)}={rest.pop(0)}")
    return joined


def parse(parameters: Iterable[str] | None) -> dict[str, Any]:
    """Read `NAME=VALUE` pairs. Values as papermill's -p has them; a list is written `[1, 2]`."""
    values = {}
    for pair in parameters or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"-p wants a name and a value, as in '-p eta 4', but got only {pair!r}.")
        if name == "profile":
            raise InputError(f"the profile is not a parameter here: write --profile {text}.")
        words = {"true": True, "false": False, "none": None, "null": None}
        try:
            values[name] = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


# --- what is to be executed ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One notebook to execute: `changed` are the parameters that differ from the notebook's own."""

    notebook: Path
    copy: Path
    changed: dict[str, Any]
    key: str
    """Digest of all that the executed copy depends on."""


def plan(names: list[str] | None, profile: str, parameters: dict[str, Any], out: Path) -> list[Job]:
    """Choose notebooks and their parameters; check what can be checked before the first one starts."""
    check_name(profile, _profiles(), "profile")
    notebooks = [_find(name) for name in names] if names else sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise InputError(f"there is no notebook in {ROOT / 'notebooks'}: give the notebooks' paths.")
    declared = {notebook: _declared(notebook) for notebook in notebooks}
    fields = _fields() if any(set(parameters) - set(own) for own in declared.values()) else set()
    for name in parameters:
        check_name(name, sorted(fields.union(*declared.values())), "parameter")

    package = _package_digest()
    jobs = []
    for notebook, own in declared.items():
        copy = out.resolve() / "notebooks" / notebook.name
        if copy == notebook:
            raise InputError(f"{out} would overwrite {notebook.name}: choose another folder as --out.")
        values = {"profile": profile} | parameters
        changed = {
            k: v for k, v in values.items() if (k in own or k in fields) and not _is_default(own, k, v)
        }
        key = _digest(_source(notebook), package, changed, os.environ.get("SFTGAN_DATA"))
        jobs.append(Job(notebook, copy, changed, key))
    return jobs


def _papermill() -> Any:
    try:
        import papermill
    except ImportError:
        raise InputError("executing notebooks needs papermill: pip install 'sftgan[book]'.") from None
    return papermill


def _profiles() -> list[str]:
    folder = resources.files("sftgan") / "profiles"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def _fields() -> set[str]:
    from sftgan.profile import FIELDS

    return set(FIELDS)


def _workers(profile: str, parameters: dict[str, Any]) -> int:
    from sftgan.profile import load_profile

    return load_profile(profile, **{k: v for k, v in parameters.items() if k in _fields()}).workers


def _find(name: str) -> Path:
    """Path of a notebook given as a file, or by its name below notebooks/."""
    if Path(name).is_file():
        return Path(name).resolve()
    known = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    return known[check_name(Path(name).stem, known, "notebook")]


def _declared(notebook: Path) -> dict:
    """The parameters in the notebook's cell tagged "parameters", by name."""
    try:
        return _papermill().inspect_notebook(str(notebook))
    except ValueError as error:
        raise InputError(f"{notebook} is not a notebook that can be executed: {error}") from None


def _is_default(own: dict, name: str, value: Any) -> bool:
    """Whether a notebook has this value of the parameter without being told."""
    try:
        return ast.literal_eval(own[name]["default"]) == value
    except (KeyError, ValueError, SyntaxError):
        return False


def _source(notebook: Path) -> list:
    cells = json.loads(notebook.read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags")) for cell in cells]


def _package_digest() -> str:
    package = Path(str(resources.files("sftgan")))
    files = [
        *package.rglob("*.py"),
        *package.rglob("*.yaml"),
        *package.rglob("*.html"),
        ROOT / "requirements.lock",
    ]
    return _digest(*[(file.name, file.read_text()) for file in sorted(files) if file.exists()])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# --- execution ----------------------------------------------------------------------------------------


def execute_all(jobs: list[Job], workers: int, again: bool = False) -> list[str]:
    """Execute notebooks: those that train one after the other, as each uses all workers; the others side by side."""
    calls = [(job, f"[{i}/{len(jobs)}]", again) for i, job in enumerate(jobs, 1)]
    training = sum(job.notebook.stem <= LAST_TO_TRAIN for job in jobs)
    alone = training if min(workers, len(jobs) - training) > 1 else len(jobs)
    started = time.perf_counter()
    results = [execute(*call) for call in calls[:alone]]
    if rest := calls[alone:]:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, initializer=_end_with_the_parent) as pool:
            results += pool.map(execute, *zip(*rest, strict=True))
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{results.count('executed')} of {len(jobs)} notebooks executed in {minutes} min {seconds} s")
    return results


def _end_with_the_parent() -> None:
    """Have Linux end this process when the one that started it is killed; a kernel ends with its parent by itself."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def execute(job: Job, prefix: str, again: bool = False) -> str:
    """Execute one notebook: "executed", "up to date" or "failed", also as a line of progress.

    A notebook that fails leaves its partly executed copy, and its last line of error on stderr.
    """
    import nbformat
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if not again and _written(job.copy).get("key") == job.key:
        print(f"{prefix} {job.notebook.stem}: up to date", flush=True)
        return "up to date"
    print(f"{prefix} {job.notebook.stem} ...", flush=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    job.copy.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        executed = _papermill().execute_notebook(
            str(job.notebook),
            str(job.copy),
            parameters=job.changed,
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],  # or each kernel warns of its transport
            cwd=str(job.notebook.parent),
        )
    except PapermillExecutionError as error:
        return _failed(job, prefix, f"{error.ename}: {error.evalue}")
    except DeadKernelError:
        return _failed(job, prefix, "the kernel died, most often for want of memory.")
    executed.metadata["sftgan"] = {
        "key": job.key,
        "seconds": round(time.perf_counter() - started, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": provenance()["commit"],
    }
    nbformat.write(executed, job.copy)
    print(f"{prefix} {job.notebook.stem}: {executed.metadata['sftgan']['seconds']:.0f} s", flush=True)
    return "executed"


def _failed(job: Job, prefix: str, sentence: str) -> str:
    print(f"{prefix} {job.notebook.stem}: failed", flush=True)
    print(f"sftgan: {sentence.splitlines()[-1]} (see {job.copy})", file=sys.stderr)
    return "failed"


def _written(copy: Path) -> dict:
    """What `execute` wrote into an executed copy; empty where there is no whole one."""
    try:
        return json.loads(copy.read_text())["metadata"].get("sftgan", {})
    except (OSError, ValueError):
        return {}


def keep(copy: Path, notebook: Path) -> None:
    """Replace a notebook by its executed copy, leaving out all that changes from run to run."""
    import nbformat

    executed = nbformat.read(copy, as_version=4)
    for name in ("papermill", "sftgan"):
        executed.metadata.pop(name, None)
    executed.metadata.get("language_info", {}).pop("version", None)
    for cell in executed.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    nbformat.write(executed, notebook)


def status_page(out: Path, profile: str, parameters: dict[str, Any]) -> str:
    """Markdown page: execution times, data sources, versions, hardware, commit."""
    from sftgan.study import Study

    here = provenance()
    runs = []
    for copy in sorted((out / "notebooks").glob("*.ipynb")):
        if written := _written(copy):
            minutes, seconds = divmod(round(written["seconds"]), 60)
            runs.append([copy.stem, f"{minutes} min {seconds:02} s", written["finished"], written["commit"]])
    study = Study(profile, **{k: v for k, v in parameters.items() if k in _fields()})
    sources = [[row["dataset"], row["source"], row["label"]] for row in study.data_sources()]
    given = ", ".join(f"`{name} = {value!r}`" for name, value in parameters.items())
    hardware = here["hardware"]
    machine = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB of memory"
    return "\n\n".join(
        [
            "# Status of this build",
            f"Profile `{profile}`{f' with {given}' if given else ''}; command `{here['command']}`.",
            "## Executed notebooks",
            _table(["notebook", "time", "finished (UTC)", "commit"], runs),
            "## Data",
            _table(["data set", "source", "what it is"], sources),
            "## Machine",
            f"{machine}, {hardware['gpu'] or 'no GPU'}; {here['platform']}.",
            "## Versions",
            _table(["package", "version"], list(here["versions"].items())) + "\n",
        ]
    )


def _table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
