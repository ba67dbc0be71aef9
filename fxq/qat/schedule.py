"""When to stop moving what should stand still at the end of training."""

from __future__ import annotations

from fxq.qat.model import QatModel


class FreezeSchedule:
    """Freezes ranges and batch-norm statistics at chosen training steps.

    Call `step()` once a training step. Krishnamoorthi 2018, section 3.2.3: freeze the batch norms
    near the end, so that training sees what inference will do.
    """

    def __init__(self, qat: QatModel, *, observers_at: int, batch_norm_at: int) -> None:
        self.qat, self.observers_at, self.batch_norm_at = qat, observers_at, batch_norm_at
        self.steps = 0

    def step(self) -> None:
        """Count one training step, and freeze what is due."""
        self.steps += 1
        if self.steps == self.observers_at:
            self.qat.freeze_observers()
        if self.steps == self.batch_norm_at:
            self.qat.freeze_batch_norm()

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]
