"""`fxq env`: the machine, its versions, and which targets it can run."""

from __future__ import annotations

import json

from fxq.system.machine import environment
from fxq.system.plugins import installed


def environment_text(as_json: bool) -> str:
    """The machine, its versions, and which targets it can run; works without torch."""
    facts, here, library = environment(), _targets(), _library()
    facts |= {"native library": library} if library else {}
    added = list(map(str, installed()))
    if as_json:
        return json.dumps({**facts, "targets": here, "plugins": added}, indent=2)
    rows = [*facts.items(), *((f"target {name}", value) for name, value in here.items()),
            *(("plugin", text) for text in added)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _library() -> str:
    """The instruction sets of fxq's own kernels here, or why they are missing; "" without torch."""
    try:
        from fxq.kernels.native import library  # needs torch, which may not be there
    except (ImportError, OSError):
        return ""
    missing = library.why_not()
    return f"missing: {missing}" if missing else f"built; programs are for {library.isa()}"


def _targets() -> dict[str, str]:
    """ "yes", or "no" with what is missing, by the target's name; none without torch."""
    try:
        from fxq.targets import TARGETS, availability  # needs torch, which may not be there
    except (ImportError, OSError):
        return {}
    return {name: availability(target) for name, target in TARGETS.items()}
