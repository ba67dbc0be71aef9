"""Run the fuzzer for long: batches in their own processes, failures collected.

    python -m tests.fuzz.campaign --models 3000 --native 3000 --files 20000 --hostile 20000
        [--start 0] [--json out.json]

A batch that crashes or hangs is a failure, with the case that it was at.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.seeds import write

ROOT = Path(__file__).parent.parent.parent
BATCH = {"models": 50, "native": 100, "files": 1000, "hostile": 500}
SECONDS = 600


def run_batch(what, number, folder):
    """The result of one process; crashes and hangs become failures."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.worker", what, str(number),
               str(BATCH[what]), str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                              timeout=SECONDS, env=os.environ | {"OMP_NUM_THREADS": "1"})
        output = folder / f"{what}-{number}.json"
        if done.returncode == 0 and output.exists():
            return json.loads(output.read_text())
        reason = f"exit code {done.returncode}: {done.stderr[-200:]}"
        if done.returncode == -signal.SIGPROF:  # the worker's own limit for one file
            reason = "no end after 10 s of one file"
    except subprocess.TimeoutExpired:
        reason = f"no end after {SECONDS} s"
    case = folder / f"{what}-{number}.case"
    return {"failures": [[reason, case.read_text() if case.exists() else what]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=3000)
    parser.add_argument("--native", type=int, default=3000)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--hostile", type=int, default=20000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs = [(what, options.start + i) for what in BATCH
            for i in range(-(-getattr(options, what) // BATCH[what]))]
    totals, failures = {what: Counter() for what in BATCH}, []
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        (Path(name) / "seeds").mkdir()
        if options.hostile:
            write(Path(name) / "seeds")
        results = pool.map(lambda job: (job, run_batch(*job, Path(name))), jobs)
        for (what, number), result in results:
            failures += [[what, number, *failure] for failure in result.pop("failures")]
            totals[what].update(result)
            print(what, number, dict(totals[what]), len(failures), "failures", flush=True)
    for failure in failures:
        print(*failure, sep="\n  ")
    if options.json:
        options.json.write_text(json.dumps({"totals": totals, "failures": failures}, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
