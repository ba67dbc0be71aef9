"""A calibrator: a share of the exact extremes, "shrunk:0.9"."""

from fxq.quantization.calibrators import Calibrator, CalibratorRow


def shrunk(share: float = 0.9) -> Calibrator:
    if not 0 < share <= 1:
        raise ValueError("the share lies between 0 and 1")
    return lambda statistics, spec: (share * statistics.minimum, share * statistics.maximum)


SHRUNK = CalibratorRow(shrunk, "shrunk:0.9")
