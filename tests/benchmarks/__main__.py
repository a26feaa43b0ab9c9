"""`make bench`: every benchmark, one after the other; nothing is asserted."""

import os
import platform

from tests.benchmarks import ingest, motion

if __name__ == "__main__":
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    ingest.main()
    motion.main()
