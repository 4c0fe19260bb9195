"""Benchmarks: figures that anyone can reproduce on their own machine.

One module a command: `classifier`, `detection`, `pipeline`, `video`, `scale`, `live` (with
`overload`, which is `live --overload`). Each gives the figures as plain values, ready for JSON, and
says in its docstring what is in them and what is not; `plots` draws them. What is compared is
measured in the same run, in turns, because a machine is never twice as fast.

Not here: how figures are shown (`moodline`), and what they were on which machine
(`docs/PERFORMANCE.md`).
"""

from __future__ import annotations

import os

from shared.config import PROJECT_DIR

DEMO_CLIP = PROJECT_DIR / "workers" / "demo" / "demo.mp4"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
