"""The process that opens media, and dies, hangs or eats memory where the name of a file says so."""

import os
import signal
import time

from opendimo.pipelines.sources import probe_child

answer = probe_child._answer


def deadly(path: str, asked: str) -> dict:
    """What the name says."""
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
