"""torchvision's resnet50 for each target: compared, profiled, saved and loaded.

    python examples/resnet50.py [--data DIR] [--images 64] [--size 224]
"""

from common.architecture import run

if __name__ == "__main__":
    run("resnet50")
