"""What was tried to break fxq, and what broke: the table of docs/reliability.md.

    python benchmarks/reliability.py --campaign campaign.json [...] [--markdown docs/reliability.md]

`campaign.json` is what `make fuzz FUZZ_ARGS="--json campaign.json"` wrote, or several of its runs;
faults and hostile files by hand are counted from the tests, and every failure that was found names
the test that keeps it fixed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from common import environment
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
TESTS = ("tests/test_faults.py", "tests/test_artifact.py", "tests/test_hostile_files.py",
         "tests/test_statistics_file.py",
         "tests/test_placement.py", "tests/test_shapes.py",
         "tests/test_trace_doctor.py", "tests/test_manager.py", "tests/test_qat.py")
# (what happened, found by, test that keeps it fixed)
FOUND = (
    ("a file whose shape or type is a list ended in TypeError", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[shape of lists]"),
    ("attributes that are a text ended in AttributeError", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[attributes that are a text]"),
    ("a scale that is a text broke the error message itself", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[scale that is a text]"),
    ("a quantize that reads a text ended in AttributeError", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[quantize of a text]"),
    ("padding of three numbers reached the kernel's packing", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[lopsided padding]"),
    ("a float layer marked as integer failed inside of a pass", "loader fuzz",
     "test_hostile_files.py::test_hostile_files[float placed on integers]"),
    ("an input of 2^60 elements overflowed before it was refused", "hostile files",
     "test_hostile_files.py::test_hostile_files[huge shape]"),
    ("a keyword's name in a file was Python source, and ran", "review",
     "test_hostile_files.py::test_names_of_arguments_run_no_code"),
    ("a module's path reached the source that torch.fx generates", "review",
     "test_hostile_files.py::test_paths_of_modules_run_no_code"),
    ("escape sequences of a file reached the terminal", "review",
     "test_hostile_files.py::test_texts_cannot_drive_a_terminal"),
    ("fewer scales than channels were read through a raw pointer (QNNPACK)", "review",
     "test_hostile_files.py::test_weights_that_are_none[too few-qnnpack]"),
    ("an integer power of literals took all time and memory", "review",
     "test_hostile_files.py::test_greedy_graphs[power of literals-reads nothing computed]"),
    ("results of 10^15 bytes were validated, and made at the call", "review",
     "test_hostile_files.py::test_greedy_graphs[repeat-a result of]"),
    ("one operator's own padding took memory that no result showed", "design of the limits",
     "test_hostile_files.py::test_greedy_graphs[hidden padding-a result of]"),
    ("manifest entries of the wrong type ended in KeyError", "review",
     "test_hostile_files.py::test_entries_of_the_wrong_type[inspect-report]"),
    ("transposed convolutions took any number of channels", "hostile-file grammar",
     "test_shapes.py::test_transposed_convolutions"),
    ("a softmax along a dimension that is not there failed at the call", "hostile-file grammar",
     "test_hostile_files.py::test_rules_refuse_what_torch_would[dimension]"),
    ("statistics files had two byte orders of the same metadata", "round-trip test",
     "test_statistics_file.py::test_round_trip_is_exact"),
    ("trained weights on a rounding tie became other integers than in training", "parity guard",
     "test_qat.py::test_integers_equal_training[fbgemm-int8_qat-Classifier]"),
    ("rounding in training hid NaN, so that a lost run looked alive", "QAT tests",
     "test_qat.py::test_batches_that_are_not_finite_leave_ranges_alone"),
    ("a product with a reshaped parameter asked for its statistics", "timm",
     "test_placement.py::test_values_of_constants_need_no_statistics"),
    ("networks that amplify rounding failed the check of a right fold", "timm",
     "test_manager.py::test_a_network_that_amplifies_rounding_sets_its_own_bound"),
    ("models whose outputs are N×C×1×1 could not be saved", "reading the tool's own errors",
     "test_artifact.py::test_outputs_of_any_layout_are_recorded[head0]"),
)


def collected() -> dict[str, list[str]]:
    """The tests of each file, with their cases."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", *TESTS],
                          cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if "::" in line:
            path, _, name = line.partition("::")
            found.setdefault(Path(path).name, []).append(name)
    return found


def count(tests: list[str], pattern: str) -> int:
    return sum(bool(re.match(pattern, name)) for name in tests)


def totals(campaigns: list[dict[str, Any]], what: str) -> Counter[str]:
    """What became of the cases of one kind, over all runs."""
    return sum((Counter(c["totals"].get(what, {})) for c in campaigns), Counter())


def failures(campaigns: list[dict[str, Any]], what: str) -> int:
    return sum(f[0] == what for c in campaigns for f in c["failures"])


def outcomes(campaigns: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Each hostile file is refused, harmless, or a failure by its kind."""
    known = totals(campaigns, "hostile")
    texts = [str(f[2]) for c in campaigns for f in c["failures"] if f[0] == "hostile"]
    kinds = {name: sum(pattern in text for text in texts) for name, pattern in FAILED.items()}
    return [("refused by a clear error", known["refused"]),
            ("loaded, and run", known["loaded"]),
            ("loaded, and refused by torch when called", known["raised at the call"]),
            *kinds.items(), ("raw exception", len(texts) - sum(kinds.values()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaign", type=Path, required=True, nargs="+")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    campaigns, tests = [json.loads(p.read_text()) for p in options.campaign], collected()
    missing = [row[2] for row in FOUND if row[2].partition("::")[2] not in tests[
        row[2].partition("::")[0]]]
    assert not missing, f"no such tests: {missing}"
    rows = [
        *((title, sum(totals(campaigns, what).values()), failures(campaigns, what))
          for what, title in CAMPAIGN.items() if totals(campaigns, what)),
        ("hostile files by hand", count(
            tests["test_hostile_files.py"], "test_"), 0),
        ("faults in passes, data and training", count(tests["test_faults.py"], "test_a_fault"), 0),
        ("interrupted, killed, impossible saves", count(
            tests["test_artifact.py"], "test_interrupted|test_killed|test_places"), 0),
        ("wrong passes that must be caught", count(
            tests["test_manager.py"], "test_wrong|test_crash|test_the_first|test_reass"), 0)]
    table = tabulate(rows, ("what was tried", "times", "failures left"), tablefmt="github")
    found = tabulate([(what, by, f"`{test}`") for what, by, test in FOUND],
                     ("found and fixed", "found by", "kept fixed by"), tablefmt="github")
    hostile = tabulate(outcomes(campaigns), ("hostile files of the grammar", "files"),
                       tablefmt="github")
    print(f"{table}\n\n{hostile}\n\n{found}")
    if options.markdown:
        options.markdown.write_text(f"# Reliability\n\n{environment()}\n\n{__doc__}\n{table}\n\n"
                                    f"{RELATIONS}\n{HOSTILE}\n{hostile}\n\n{found}\n")


# the kinds of failure, by what the campaign says of them; all others are exceptions
FAILED = {"ran code": "ran code", "crashed (signal)": "exit code -",
          "hung for more than 10 s": "no end after", "took more than 4 GB": "more than 4096 MB"}
CAMPAIGN = {"models": "random models, all relations", "files": "damaged and resealed files",
            "hostile": "hostile files of the grammar"}
HOSTILE = """A grammar writes hostile files from nine good ones (three targets, reference, float):
one to three fields of any row, call, tensor, text or manifest are changed by type, range, name or
reference, calls of the whole allow-list are inserted, most recorded shapes are made right again,
and all digests are. A file is loaded, printed, and run. What torch refuses at the call, as an index
that is computed and too large, is a Python error there, as it is in float.
"""
RELATIONS = """Of each random model: the trace equals the model bit for bit; every pass keeps its
word; each kernel is within one step of integer arithmetic; batches may be split; any memory layout
and any global engine give the same result; two builds have the same bytes; a loaded file gives the
same bits; the model and torch's state are untouched. Each batch of 50 models runs in a process of
its own, so that a crash or a hang is seen. Models take turns on fbgemm, x86 and qnnpack (the first
3000 ran on fbgemm alone); for a fifth of them passes that commute trade places, and one in forty
runs under the kernels of older CPUs too.

A file that loads after a change was changed in a place that means nothing (a name, a source line, a
figure of the report); it is run as well.
"""


if __name__ == "__main__":
    main()
