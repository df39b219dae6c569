"""Ctrl-C and SIGTERM as a wish that the loop can grant between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["stop_signals"]


@contextmanager
def stop_signals(stop: Callable[[], None], patient: bool = False) -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM calls `stop`; a second one does what it always does.

    When `patient`, further ones do nothing: torchrun passes on to its processes the Ctrl-C that
    they have had from the terminal, and kills them when they take longer than 30 seconds.

    Python lets only the main thread handle signals: in another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number in watched:
            signal.signal(number, before[number])

    def handle(number: int, frame: Any) -> None:
        if not patient:
            restore()
        stop()

    for number in watched:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
