"""`fxq` commands in processes forked from one that has imported torch: an import takes seconds."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fxq.cli.app import main

SECONDS = 300
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([
    "tests.command", "fxq.cli.commands", "fxq.cli.compile", "fxq.cli.artifact", "fxq.cli.measure",
    "torchvision.models"])


def _run(arguments, cwd, environment, streams):
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["fxq", *arguments]
    main()


def fxq_command(*arguments, cwd=None):
    """What `fxq ARGUMENTS` gives in a folder, as subprocess.run has it."""
    with TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        process = _forks.Process(target=_run, args=(
            arguments, cwd or os.getcwd(), dict(os.environ), streams))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        return subprocess.CompletedProcess(arguments, process.exitcode,
                                           *(path.read_text() for path in streams))


def fxq_process(*arguments, cwd=None):
    """The same in a process that starts from nothing, as at a prompt."""
    return subprocess.run([sys.executable, "-m", "fxq", *arguments], capture_output=True,
                          text=True, cwd=cwd, timeout=SECONDS, check=False)
