"""A function on several processes of this machine, and what each of them gives.

For notebooks and tests. A program of your own is started with ``torchrun``. Chapter 12
starts its processes with it.
"""

from __future__ import annotations

import datetime
import inspect
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from mattn.inputs import whole_number

__all__ = ["run"]


def run(
    function: Callable[..., Any], size: int, *arguments: Any, timeout: float = 60.0
) -> list[Any]:
    """``function(*arguments)`` on ``size`` processes of one gloo group; their results.

    The processes find each other through a file, and talk over the loopback interface
    alone, on ports that the system chooses. A function of a notebook is sent as its
    text, so it has to import what it uses. Results are what ``torch.save`` can write.

    Where a process raises or dies, the others are ended, and the error names it: a
    ``torch.multiprocessing.ProcessException``. ``timeout`` in seconds bounds each
    wait for another.
    """
    size = whole_number(size, "run: size", least=1)
    sent: Any = function
    if function.__module__ == "__main__":
        sent = function.__name__, textwrap.dedent(inspect.getsource(function))
    with tempfile.TemporaryDirectory(prefix="mattn-") as folder:
        start_processes(
            _process,
            (size, folder, timeout, sent, arguments),
            nprocs=size,
            start_method="spawn",
        )
        return [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=False)
            for rank in range(size)
        ]


def _process(rank: int, size: int, folder: str, timeout: float, sent, arguments):
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=Path(folder, "meet").absolute().as_uri(),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=timeout),
    )
    try:
        found = _function(sent)(*arguments)
        torch.save(found, Path(folder, f"{rank}.pt"))
        dist.barrier()  # nobody leaves while another still listens
    finally:
        dist.destroy_process_group()


def _function(sent: Any) -> Callable[..., Any]:
    if callable(sent):
        return sent
    name, source = sent
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, f"<{name}>", "exec"), names)
    return names[name]
