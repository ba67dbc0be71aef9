"""torchvision's alexnet for each target: compared, profiled, saved and loaded.

    python examples/alexnet.py [--data DIR] [--images 64] [--size 224]
"""

from common.architecture import run

if __name__ == "__main__":
    run("alexnet")
