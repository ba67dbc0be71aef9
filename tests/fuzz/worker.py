"""One batch of the campaign in a process of its own: a crash costs a batch, and names its case."""

import json
import random
import sys
import warnings
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

import fxq
from tests.fuzz.check_hostile import run_files
from tests.fuzz.files import check_bad_file, damaged, resealed
from tests.fuzz.native import check_native
from tests.fuzz.nets import recipes
from tests.fuzz.oracles import check_model
from tests.nets import Classifier, SqueezeExcite, lively, ramp


def models(number, count, folder):
    """Random models from one seed; the current one is written down before it runs."""
    result = {"ok": 0, "refused": 0, "failures": []}

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(recipes)
    def run(recipe):
        (folder / f"models-{number}.case").write_text(repr(recipe))
        try:
            result[check_model(recipe)] += 1
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            result["failures"].append([text[:200], repr(recipe)])

    run()
    return result


def natives(number, count, folder):
    """Random models on the native engine: seeds number * count and those that follow."""
    result = {"models": 0, "runs": 0, "programs": 0, "steps": 0, "failures": []}
    for model in range(number * count, (number + 1) * count):
        (folder / f"native-{number}.case").write_text(f"seed {model}")
        try:
            found = check_native(model)
        except Exception as error:
            result["failures"].append([f"{type(error).__name__}: {error}"[:300], f"seed {model}"])
            continue
        result |= {name: result[name] + found[name] for name in found}
    return result


def files(number, count, folder):
    """Damaged and resealed files of two models."""
    source, path = random.Random(number), folder / f"files-{number}.fxq"
    x, contents = ramp(2, 3, 16, 16), []
    for net in (Classifier, SqueezeExcite):
        fxq.compile(lively(net()), example_inputs=(x,), calibration_data=[x],
                    runtime="python").save(path)
        contents.append(path.read_bytes())
    result = {"refused": 0, "loaded": 0, "failures": []}
    for _ in range(count):
        change = source.choice((damaged, resealed))
        content = change(source.choice(contents), source)
        try:
            result[check_bad_file(path, content)] += 1
        except Exception as error:
            result["failures"].append([f"{type(error).__name__}: {error}"[:200], change.__name__])
    return result


if __name__ == "__main__":
    what, number, count, place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(number)
    found = {"models": models, "native": natives, "files": files,
             "hostile": run_files}[what](number, count, place)
    (place / f"{what}-{number}.json").write_text(json.dumps(found))
