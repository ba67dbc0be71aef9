"""Logging under `fxq`: silent by default, and asked for by FXQ_LOGS=+passes,calibrate."""

from __future__ import annotations

import logging
import os

TOPICS = ("passes", "calibrate", "compile", "artifact")


def logger(topic: str) -> logging.Logger:
    """The logger of one topic."""
    return logging.getLogger(f"fxq.{topic}")


def configure(wanted: str | None = None) -> list[str]:
    """Send the topics of FXQ_LOGS to stderr; `all` is every topic. Unknown ones are returned."""
    text = os.environ.get("FXQ_LOGS", "") if wanted is None else wanted
    names = [part.strip().lstrip("+") for part in text.split(",") if part.strip()]
    chosen = [*TOPICS] if "all" in names else [n for n in names if n in TOPICS]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    for topic in chosen:
        named = logger(topic)
        if not named.handlers:
            named.addHandler(handler)
        named.setLevel(logging.DEBUG)
        named.propagate = False
    return [n for n in names if n not in (*TOPICS, "all")]
