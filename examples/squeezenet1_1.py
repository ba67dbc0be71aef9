"""torchvision's squeezenet1_1 for each target: compared, profiled, saved and loaded.

    python examples/squeezenet1_1.py [--data DIR] [--images 64] [--size 224]
"""

from common.architecture import run

if __name__ == "__main__":
    run("squeezenet1_1")
