"""Execution of the notebooks: which are out of date, in which order they run, and the status page."""

import ast
import ctypes
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from sftgan.companion.recording import recorded
from sftgan.companion.report.tables import markdown
from sftgan.companion.study.cache import cache_folder
from sftgan.companion.study.profile import FIELDS, profile_names
from sftgan.companion.study.study import Study
from sftgan.errors import InputError, check_name
from sftgan.provenance import ROOT, provenance

TRAINING = ("01_cgma", "03_training_strategies", "04_dice")
"""Notebooks that fit, with all workers, the networks that other notebooks share."""
LONG = ("13_switches", "11_beyond_the_paper")
"""Notebooks that start first among those that run in parallel, because they take longest."""


@dataclass(frozen=True)
class Job:
    """One notebook to execute.

    Attributes
    ----------
    notebook
        Path of the notebook.
    copy
        Path of the executed copy.
    changed
        Parameters, by name, whose values differ from the notebook's defaults.
    key
        Digest of everything that the executed copy depends on.
    """

    notebook: Path
    copy: Path
    changed: dict[str, Any]
    key: str


def plan(names: list[str] | None, profile: str, parameters: dict[str, Any], out: Path) -> list[Job]:
    """Choose notebooks and their parameters, and check them before the first notebook starts.

    Parameters
    ----------
    names
        Notebooks as paths, or as names in the folder notebooks, such as "04_dice"; all of that folder if empty
        or None.
    profile
        Name of the profile.
    parameters
        Parameters of notebooks and fields of the profile that override the defaults, by name.
    out
        Folder for the executed copies, which go to its subfolder notebooks.

    Returns
    -------
    list[Job]
        One job for each notebook, sorted by name, so that those in ``TRAINING`` come early.

    Raises
    ------
    InputError
        If a name is unknown, a file is no notebook, there are no notebooks, or a copy would overwrite its notebook.
    """
    check_name(profile, profile_names(), "profile")
    notebooks = [_find(name) for name in names] if names else sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise InputError(f"there are no notebooks in {ROOT / 'notebooks'}: give the paths of the notebooks.")
    notebooks.sort(key=lambda path: path.stem)  # those that train come first
    declared = {notebook: _declared(notebook) for notebook in notebooks}
    for name in parameters:
        check_name(name, sorted({*FIELDS}.union(*declared.values())), "parameter")

    common = _package_digest(), _study(profile, parameters).files()
    jobs = []
    for notebook, own in declared.items():
        copy = out.resolve() / "notebooks" / notebook.name
        if copy == notebook:
            raise InputError(f"{out} would overwrite {notebook.name}: choose another folder with --out.")
        values = {"profile": profile} | parameters
        changed = {
            k: v for k, v in values.items() if (k in own or k in FIELDS) and not _is_default(own, k, v)
        }
        key = _digest(_source(notebook), *common, changed)
        jobs.append(Job(notebook, copy, changed, key))
    return jobs


def workers(profile: str, parameters: dict[str, Any]) -> int:
    """Count the processes that a profile may use.

    Parameters
    ----------
    profile
        Name of the profile.
    parameters
        Parameters by name; those that are fields of the profile override it.

    Returns
    -------
    int
        Number of processes, at least 1.

    Raises
    ------
    InputError
        If the profile is unknown, or a field has an invalid value.

    Examples
    --------
    >>> workers("smoke", {"workers": 2})
    2
    """
    return _study(profile, parameters).profile.workers


def _study(profile: str, parameters: dict[str, Any]) -> Study:
    return Study(profile, **{k: v for k, v in parameters.items() if k in FIELDS})


def _papermill() -> Any:
    try:
        import papermill
    except ImportError:
        raise InputError("executing notebooks needs papermill: run `pip install 'sftgan[book]'`.") from None
    return papermill


def _find(name: str) -> Path:
    """Find the path of a notebook from a file path, or from its name in the folder notebooks."""
    if Path(name).is_file():
        return Path(name).resolve()
    known = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    return known[check_name(Path(name).stem, known, "notebook")]


def _declared(notebook: Path) -> dict:
    """Read the parameters, by name, from the notebook's cell tagged "parameters"."""
    try:
        return _papermill().inspect_notebook(str(notebook))
    except ValueError as error:
        raise InputError(f"{notebook} cannot be executed as a notebook: {error}") from None


def _is_default(own: dict, name: str, value: Any) -> bool:
    """Say whether a value is the notebook's default of a parameter."""
    try:
        return ast.literal_eval(own[name]["default"]) == value
    except (KeyError, ValueError, SyntaxError):
        return False


def _source(notebook: Path) -> list:
    cells = json.loads(notebook.read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags")) for cell in cells]


def code_digest(cells: list[dict]) -> str:
    """Compute a digest of the code cells of a notebook.

    Parameters
    ----------
    cells
        Cells of the notebook, each with its "cell_type" and "source"; other types than "code" do not count.

    Returns
    -------
    str
        SHA-256 digest in hexadecimal.

    Examples
    --------
    >>> code = {"cell_type": "code", "source": "print(1)"}
    >>> code_digest([code]) == code_digest([{"cell_type": "markdown", "source": "A title"}, code])
    True
    """
    return _digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])


def _package_digest() -> str:
    package = Path(str(resources.files("sftgan")))
    files = [
        *package.rglob("*.py"),
        *package.rglob("*.yaml"),
        *package.rglob("*.html"),
        package / "pretrained" / "SHA256SUMS",
        ROOT / "requirements.lock",
    ]
    return _digest(*[(file.name, file.read_text()) for file in sorted(files) if file.exists()])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def execute_all(jobs: list[Job], workers: int, again: bool = False) -> list[str]:
    """Execute notebooks.

    Notebooks that train run one after the other, because each of them uses all workers. The others run in parallel.

    Parameters
    ----------
    jobs
        Notebooks to execute.
    workers
        Number of notebooks that run in parallel.
    again
        Whether to execute notebooks that are up to date as well.

    Returns
    -------
    list[str]
        "executed", "up to date" or "failed" for each job.

    Raises
    ------
    InputError
        If a process was killed from outside.
    """
    calls = [(job, f"[{i}/{len(jobs)}]", again) for i, job in enumerate(jobs, 1)]
    alone = [call for call in calls if call[0].notebook.stem in TRAINING]
    rest = [call for call in calls if call not in alone]
    rest.sort(key=lambda call: call[0].notebook.stem not in LONG)
    if min(workers, len(rest)) <= 1:
        alone, rest = calls, []
    started = time.perf_counter()
    ended = {call[0].copy: execute(*call) for call in alone}
    if rest:
        spawn = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(workers, spawn, initializer=_begin_side_by_side) as pool:
                ended |= zip(
                    [job.copy for job, *_ in rest], pool.map(execute, *zip(*rest, strict=True)), strict=True
                )
        except BrokenProcessPool:
            raise InputError(
                "a process was killed, probably because memory ran out: run the same command again with fewer "
                "workers (-p workers N). Finished computations are kept."
            ) from None
    results = [ended[job.copy] for job in jobs]
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{results.count('executed')} of {len(jobs)} notebooks executed in {minutes} min {seconds} s")
    return results


def _begin_side_by_side() -> None:
    """Limit a notebook to one process, and have Linux end this process when the one that started it is killed."""
    os.environ["SFTGAN_WORKERS"] = "1"
    # the notebook's kernel ends with this process by itself
    pr_set_pdeathsig = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def execute(job: Job, prefix: str, again: bool = False) -> str:
    """Execute one notebook, and print its progress.

    A notebook that fails leaves its partly executed copy, and the last line of its error goes to stderr.

    Parameters
    ----------
    job
        Notebook to execute.
    prefix
        Start of each line of progress, such as "[1/16]".
    again
        Whether to execute the notebook even if its copy is up to date.

    Returns
    -------
    str
        "executed", "up to date" or "failed".

    Raises
    ------
    InputError
        If papermill is not installed.
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    class KernelBehindFiles(AsyncKernelManager):
        """Kernel manager over files, whose names are unique; parallel kernels may choose the same network port."""

        transport = "ipc"

        def _ip_default(self) -> str:
            return str(Path(tempfile.gettempdir(), f"sftgan-{uuid.uuid4().hex}"))

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
            kernel_manager_class=KernelBehindFiles,
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],  # else each kernel warns about its transport
            cwd=str(job.notebook.parent),
        )
    except PapermillExecutionError as error:
        return _failed(job, prefix, f"{error.ename}: {error.evalue}")
    except (DeadKernelError, RuntimeError):  # during the run, or before the first answer
        return _failed(job, prefix, "the kernel died, probably because memory ran out.")
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
    """Read the metadata that ``execute`` wrote into an executed copy; empty without a complete copy."""
    try:
        written = json.loads(copy.read_text())["metadata"].get("sftgan", {})
    except (OSError, ValueError):
        return {}
    return written if "key" in written else {}  # a failed copy may have the metadata of `keep`


def keep(copy: Path, notebook: Path) -> None:
    """Replace a notebook with its executed copy, without the metadata that changes from run to run.

    The metadata hold a digest of the executed code, so that a test can find outputs that are out of date.

    Parameters
    ----------
    copy
        Executed copy.
    notebook
        Notebook to replace.
    """
    import nbformat

    executed = nbformat.read(copy, as_version=4)
    executed.metadata.pop("papermill", None)
    executed.metadata["sftgan"] = {"code": code_digest(executed.cells)}
    executed.metadata.get("language_info", {}).pop("version", None)
    for cell in executed.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    nbformat.write(executed, notebook)


def keep_times(jobs: list[Job], folder: Path) -> None:
    """Write stages.csv, the computing times of the stages, beside plan.csv; do nothing without a plan.csv.

    The row "other" holds the number of notebooks and the time of their last executions. That time is right if all
    stages were in the cache by then.

    Parameters
    ----------
    jobs
        Notebooks of the run, after their execution.
    folder
        Folder of plan.csv.
    """
    plan = folder / "plan.csv"
    if not plan.exists():
        return
    times = recorded.stage_times(plan, cache_folder() / "log.txt")
    rest = times["stage"] == "other"
    times.loc[rest, "computed"] = len(jobs)
    times.loc[rest, "minutes"] = round(sum(_written(job.copy).get("seconds", 0) for job in jobs) / 60, 1)
    times.to_csv(folder / "stages.csv", index=False)


def status_page(out: Path, profile: str, parameters: dict[str, Any]) -> str:
    """Write the status page: execution times, data sources, versions, hardware and commit.

    Parameters
    ----------
    out
        Folder whose subfolder notebooks has the executed copies.
    profile
        Name of the profile.
    parameters
        Parameters by name that overrode the defaults.

    Returns
    -------
    str
        Page in Markdown.
    """
    here = provenance()
    runs = []
    for copy in sorted((out / "notebooks").glob("*.ipynb")):
        if written := _written(copy):
            minutes, seconds = divmod(round(written["seconds"]), 60)
            runs.append([copy.stem, f"{minutes} min {seconds:02} s", written["finished"], written["commit"]])
    study = _study(profile, parameters)
    sources = [[row["dataset"], row["source"], row["label"]] for row in study.data_sources()]
    given = ", ".join(f"`{name} = {value!r}`" for name, value in parameters.items())
    hardware = here["hardware"]
    machine = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB of memory"
    return "\n\n".join(
        [
            "# Status of this build",
            f"Profile `{profile}`{f' with {given}' if given else ''}; command `{here['command']}`.",
            "## Executed notebooks",
            markdown(["notebook", "time", "finished (UTC)", "commit"], runs),
            "## Data",
            markdown(["data set", "source", "what it is"], sources),
            "## Machine",
            f"{machine}, {hardware['gpu'] or 'no GPU'}; {here['platform']}.",
            "## Versions",
            markdown(["package", "version"], list(here["versions"].items())) + "\n",
        ]
    )
