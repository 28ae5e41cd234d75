"""Starts the program as several processes, as a launcher does."""

import contextlib
import functools
import os
import random
import signal
import socket
import subprocess
import time

from training import ENVIRONMENT, MATRIX


def free_port() -> int:
    """Below the range of which the system gives clients theirs, one of whom would take it before rank 0 does."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as handle, contextlib.suppress(OSError):
            handle.bind(("127.0.0.1", port))
            return port


class Ranks:
    """The processes of one run; used as a context, none outlives it."""

    def __init__(self, directory, arguments, world, environment=None, before_start=None):
        """`arguments` of all ranks, or a list of them by rank; `before_start(rank)` runs in the new process, ahead of
        the program."""
        port = free_port()
        self.processes = []
        for rank in range(world):
            variables = {
                "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                # c10d asks the name server for every address, 127.0.0.1 too: a slow one costs seconds.
                "RES_OPTIONS": "attempts:0",
            }  # fmt: skip
            self.processes.append(
                subprocess.Popen(
                    [MATRIX, *map(str, arguments[rank] if isinstance(arguments[0], list) else arguments)],
                    cwd=directory,
                    env=ENVIRONMENT | {name: str(value) for name, value in variables.items()} | (environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    preexec_fn=before_start and functools.partial(before_start, rank),
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait(self, timeout=300) -> list[subprocess.CompletedProcess]:
        deadline = time.monotonic() + timeout
        results = []
        for process in self.processes:
            out, err = process.communicate(timeout=max(1, deadline - time.monotonic()))
            results.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
        return results

    def kill(self, rank, number=signal.SIGKILL):
        os.kill(self.processes[rank].pid, number)


def run_ranks(program, world, arguments, code=0, timeout=300, environment=None) -> list[subprocess.CompletedProcess]:
    """All ranks to their end; all must end with `code`."""
    with Ranks(program.directory, arguments, world, environment) as ranks:
        results = ranks.wait(timeout)
    for rank, result in enumerate(results):
        assert result.returncode == code, f"rank {rank}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return results
