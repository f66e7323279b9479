"""Executing the notebooks: which ones are out of date, in what order, and what the status page says of it."""

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

from sftgan import recorded
from sftgan.cache import cache_folder
from sftgan.errors import InputError, check_name
from sftgan.profile import FIELDS, profile_names
from sftgan.provenance import ROOT, provenance
from sftgan.study import Study
from sftgan.tables import markdown

TRAINING = ("01_cgma", "03_training_strategies", "04_dice")  # what these fit, with all workers, others share
LONG = ("13_switches", "11_beyond_the_paper")  # of those that run side by side: they begin


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
    check_name(profile, profile_names(), "profile")
    notebooks = [_find(name) for name in names] if names else sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise InputError(f"there is no notebook in {ROOT / 'notebooks'}: give the notebooks' paths.")
    notebooks.sort(key=lambda path: path.stem)  # those that train stand first
    declared = {notebook: _declared(notebook) for notebook in notebooks}
    for name in parameters:
        check_name(name, sorted({*FIELDS}.union(*declared.values())), "parameter")

    common = _package_digest(), _study(profile, parameters).files()
    jobs = []
    for notebook, own in declared.items():
        copy = out.resolve() / "notebooks" / notebook.name
        if copy == notebook:
            raise InputError(f"{out} would overwrite {notebook.name}: choose another folder as --out.")
        values = {"profile": profile} | parameters
        changed = {
            k: v for k, v in values.items() if (k in own or k in FIELDS) and not _is_default(own, k, v)
        }
        key = _digest(_source(notebook), *common, changed)
        jobs.append(Job(notebook, copy, changed, key))
    return jobs


def workers(profile: str, parameters: dict[str, Any]) -> int:
    """How many processes a profile, with what the parameters override, may use."""
    return _study(profile, parameters).profile.workers


def _study(profile: str, parameters: dict[str, Any]) -> Study:
    return Study(profile, **{k: v for k, v in parameters.items() if k in FIELDS})


def _papermill() -> Any:
    try:
        import papermill
    except ImportError:
        raise InputError("executing notebooks needs papermill: pip install 'sftgan[book]'.") from None
    return papermill


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


def code_digest(cells: list[dict]) -> str:
    """Digest of the code cells of a notebook."""
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
    """Execute notebooks: those that train one after the other, as each uses all workers; the others side by side.

    Returns "executed", "up to date" or "failed" for each. Raises InputError where a process was killed from outside.
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
                "a process was killed, most often for want of memory: run the same command again with fewer "
                "`-p workers`, what was computed is kept."
            ) from None
    results = [ended[job.copy] for job in jobs]
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{results.count('executed')} of {len(jobs)} notebooks executed in {minutes} min {seconds} s")
    return results


def _begin_side_by_side() -> None:
    """Let a notebook compute in its own process only, as others run beside it.

    And have Linux end this process when the one that started it is killed; a kernel ends with its parent by itself.
    """
    os.environ["SFTGAN_WORKERS"] = "1"
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def execute(job: Job, prefix: str, again: bool = False) -> str:
    """Execute one notebook: "executed", "up to date" or "failed", also as a line of progress.

    A notebook that fails leaves its partly executed copy, and its last line of error on stderr.
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    class KernelBehindFiles(AsyncKernelManager):
        """Kernels that start side by side may choose the same network port; a file has a name of its own."""

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
            extra_arguments=["--IPKernelApp.log_level=50"],  # or each kernel warns of its transport
            cwd=str(job.notebook.parent),
        )
    except PapermillExecutionError as error:
        return _failed(job, prefix, f"{error.ename}: {error.evalue}")
    except (DeadKernelError, RuntimeError):  # while it ran, or before it answered
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
        written = json.loads(copy.read_text())["metadata"].get("sftgan", {})
    except (OSError, ValueError):
        return {}
    return written if "key" in written else {}  # a recorded notebook that failed has what `keep` wrote


def keep(copy: Path, notebook: Path) -> None:
    """Replace a notebook by its executed copy, leaving out all that changes from run to run.

    A digest of the code that was executed is kept with it, so that a test can tell outputs that are out of date.
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
    """Write stages.csv beside plan.csv, where a recorded run was planned: what its stages and the rest took.

    The rest is the time of the notebooks as now executed; it is little else once the cache has all stages.
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
    """Markdown page: execution times, data sources, versions, hardware, commit."""
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
