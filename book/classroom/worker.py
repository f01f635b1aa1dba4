"""What is done with nbgrader, by the Python of .venv-instructor.

    python book/classroom/worker.py release             a course, in its folder
    python book/classroom/worker.py grade JOB.json      one submission

``grade`` runs in a course of one student that ``sandbox`` lays out. It
shuts itself in before it starts anything of the student's: limits that every
child inherits, and, in a network namespace, loopback and nothing else.
"""

from __future__ import annotations

import array
import json
import os
import resource
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x1, 0x8913, 0x8914


def loopback_up() -> None:
    """Kernels talk over 127.0.0.1, which is down in a new namespace."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        request = array.array("B", b"lo".ljust(16, b"\0") + bytes(16))
        fcntl.ioctl(some, SIOCGIFFLAGS, request)
        flags = int.from_bytes(request[16:18].tobytes(), sys.byteorder)
        if not flags & IFF_UP:
            up = (flags | IFF_UP).to_bytes(2, sys.byteorder)
            request[16:18] = array.array("B", up)
            fcntl.ioctl(some, SIOCSIFFLAGS, request)


def only_loopback() -> bool:
    """Is there no other way out of here?"""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


class Process(NamedTuple):
    """What the system says of one."""

    parent: int
    began: str
    memory: int  # bytes
    cpu: float  # seconds, with those of children that have ended


def process(pid: int) -> Process | None:
    """Nothing where it has ended, or where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    cpu = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Process(int(fields[1]), fields[19], memory, cpu)


def family(root: int) -> dict[int, Process]:
    """A process and its descendants; empty where there is no /proc."""
    numbers = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    known = {pid: found for pid in numbers if (found := process(pid))}
    members, size = {root}, 0
    while len(members) != size:
        size = len(members)
        members |= {pid for pid, each in known.items() if each.parent in members}
    return {pid: known[pid] for pid in members if pid in known}


def charged(used: float, elapsed: float) -> float:
    """Of the seconds that passed, those that count against a limit.

    Whoever does next to nothing sleeps, and is charged for all of them; whoever
    works, for those on a CPU: the others are a busy machine's fault. Where CPU
    seconds are not known, all count.
    """
    return min(used, elapsed) if used > elapsed / 50 else elapsed


def shut_in(job: dict[str, Any]) -> None:
    """Limits for this process and all that it starts; no way to the network."""
    for limit, value in (
        (resource.RLIMIT_DATA, job["memory"]),
        (resource.RLIMIT_FSIZE, job["file_size"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    if job["isolated"]:
        loopback_up()
        if not only_loopback():
            raise SystemExit("the network namespace has more than loopback")


def interface() -> Any:
    """nbgrader's, for the course in the working directory."""
    import warnings

    warnings.simplefilter("ignore")
    # nbgrader calls alembic by its bare name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    import nbgrader.api
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    # It starts a process for this each time that it opens the gradebook.
    nbgrader.api.get_alembic_version = cache(nbgrader.api.get_alembic_version)
    config = Config()
    config.CourseDirectory.root = str(Path.cwd())
    config.CourseDirectory.course_id = "mattn"
    # No script of a submission in the page that somebody opens to read it.
    config.HTMLExporter.sanitize_html = True
    return NbGraderAPI(config=config)


def release() -> None:
    """Every assignment of the course: ``release/`` and the gradebook."""
    api = interface()
    for folder in sorted(Path("source").iterdir()):
        done = api.generate_assignment(folder.name, force=True, create=True)
        if not done["success"]:
            raise SystemExit(done["log"])
    api.gradebook.close()


def without_stderr(notebook: Any) -> None:
    """nbgrader gives no point to a cell that warns: a warning is no failure."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]


class OwnTime:
    """Ends a cell by what is ``charged``, not by a clock on the wall.

    For a client of nbclient, which asks each time that the limit has passed on the
    wall.
    """

    def cpu(self) -> float:
        members = family(self.km.provisioner.pid)
        return sum(member.cpu for member in members.values())

    def on_cell_execute(self, **_: Any) -> None:
        self.spent, self.used = 0.0, self.cpu()

    async def _async_handle_timeout(self, timeout: int, cell: Any = None) -> Any:
        before, self.used = self.used, self.cpu()
        self.spent += charged(self.used - before, timeout)
        if self.spent < 0.9 * timeout:  # a spinning kernel is not always on its CPU
            return None
        return await super()._async_handle_timeout(timeout, cell)


def grade(job: dict[str, Any]) -> dict[str, Any]:
    """Points and errors, cell by cell."""
    from nbgrader.converters import Autograde
    from nbgrader.preprocessors import Execute, NbGraderPreprocessor

    class Patient(OwnTime, Execute):
        pass

    class Quiet(NbGraderPreprocessor):
        def preprocess(self, nb: Any, resources: Any) -> Any:
            without_stderr(nb)
            return nb, resources

    usual = Autograde.autograde_preprocessors.default_args[0]
    steps = []
    for step in usual:
        steps += [Patient, Quiet] if step is Execute else [step]
    api = interface()
    api.config.Execute.timeout = job["cell_seconds"]
    # Guards against a kernel that hangs; one that dies is noticed at once.
    api.config.Execute.startup_timeout = 600
    api.config.Execute.iopub_timeout = 30
    api.config.Autograde.autograde_preprocessors = steps
    done = api.autograde(job["assignment"], job["student"], force=True, create=True)
    if not done["success"]:
        return {"error": last_error(done["log"] or done.get("error", ""))}
    feedback = api.generate_feedback(job["assignment"], job["student"], force=True)
    api.gradebook.close()
    path = Path("autograded", job["student"], job["assignment"])
    text = (path / f"{job['assignment']}.ipynb").read_text(encoding="utf-8")
    return {
        "points": points_of(job),
        "errors": errors(json.loads(text), job["cell_seconds"]),
        "feedback": bool(feedback["success"]),
    }


def points_of(job: dict[str, Any]) -> dict[str, float]:
    """What the gradebook holds for each cell; 0 where it holds nothing."""
    from nbgrader.api import Gradebook, MissingEntry

    points: dict[str, float] = {}
    with Gradebook(f"sqlite:///{Path.cwd() / 'gradebook.db'}") as book:
        names = (job["assignment"], job["assignment"], job["student"])
        for name in job["graded"]:
            try:
                points[name] = book.find_grade(name, *names).auto_score or 0.0
            except MissingEntry:
                points[name] = 0.0
    return points


def errors(notebook: dict[str, Any], seconds: int) -> dict[str, str]:
    """The first error of each cell that nbgrader knows: ``grade_id → what``."""
    found: dict[str, str] = {}
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        for output in cell.get("outputs", []):
            if name and output["output_type"] == "error":
                said = f"{output['ename']}: {output['evalue']}".strip().rstrip(":")
                if output["ename"] in ("KeyboardInterrupt", "CellTimeoutError"):
                    said = f"ran longer than {seconds} s: stopped"
                found.setdefault(name, said)
    return found


def last_error(log: str) -> str:
    """What went wrong, from nbgrader's log."""
    if "DeadKernelError" in log:
        return "its kernel died"
    if "CellTimeoutError" in log or "UnresponsiveKernelError" in log:
        return "a cell ran too long and could not be interrupted"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0]]
    return (named or lines or ["nbgrader failed"])[-1]


def main(arguments: list[str]) -> int:
    if arguments == ["release"]:
        release()
        return 0
    if len(arguments) == 2 and arguments[0] == "grade":
        job = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
        shut_in(job)
        done = json.dumps(grade(job))
        Path("result.json").write_text(done, encoding="utf-8")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
