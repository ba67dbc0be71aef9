"""torchvision's mobilenet_v2 for each target: compared, profiled, saved and loaded.

    python examples/mobilenet_v2.py [--data DIR] [--images 64] [--size 224]
"""

from common.architecture import run

if __name__ == "__main__":
    run("mobilenet_v2")
