"""Stand-in for the probing subprocess that crashes, hangs or exhausts memory depending on the file name."""

import os
import signal
import time

from opendimo.pipelines.sources import probe_child

answer = probe_child._answer


def deadly(path: str, asked: str) -> dict:
    """Behave as the file name says."""
    if "dies" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hangs" in path:
        time.sleep(60)
    if "eats" in path:
        try:
            bytearray(probe_child.MEMORY)
        except MemoryError:
            return {"problem": "memory"}
    return answer(path, asked)


probe_child._answer = deadly
probe_child.main()
