"""Commands in processes forked from one that has imported torch: an import takes seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fxq.cli.app import main

SECONDS = 300
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([
    "tests.command", "fxq.cli.commands", "fxq.cli.compile", "fxq.cli.artifact", "fxq.cli.explain",
    "fxq.cli.gates", "torchvision.models"])


def _fxq(arguments):
    sys.argv = ["fxq", *arguments]
    main()


def _python(arguments):
    first, *rest = arguments
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path.insert(0, "" if first in ("-c", "-m") else str(Path(first).parent))
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(first, run_name="__main__")


def _run(start, arguments, cwd, environment, streams):
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    start(arguments)


def _forked(start, arguments, cwd, environment):
    with TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        process = _forks.Process(target=_run, args=(
            start, arguments, cwd or os.getcwd(), environment or dict(os.environ), streams))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        return subprocess.CompletedProcess(arguments, process.exitcode,
                                           *(path.read_text() for path in streams))


def fxq_command(*arguments, cwd=None):
    """What `fxq ARGUMENTS` gives in a folder, as subprocess.run has it."""
    return _forked(_fxq, arguments, cwd, None)


def python_command(*arguments, cwd=None, environment=None):
    """What `python ARGUMENTS` gives: a script, `-c` and a program, or `-m` and a module."""
    return _forked(_python, arguments, cwd, environment)


def fxq_process(*arguments, cwd=None):
    """The same in a process that starts from nothing, as at a prompt."""
    return subprocess.run([sys.executable, "-m", "fxq", *arguments], capture_output=True,
                          text=True, cwd=cwd, timeout=SECONDS, check=False)
