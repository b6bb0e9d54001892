"""Large arrays on huge pages: on CPU a train step takes an eighth to a quarter less time.

XLA asks the C library for its buffers anew at every step, and the kernel then hands them out page
by page, each with a fault (figures in docs/performance.md).
"""

import os
import sys

TUNABLES = "GLIBC_TUNABLES"


def use() -> None:
    """Starts this program again, once, with glibc's allocator on transparent huge pages.

    glibc reads the setting only when a process starts; child processes have it from this one.
    Nothing happens on other systems, under a debugger, or where GLIBC_TUNABLES is set already (even
    to nothing: the way to switch this off).
    """
    if sys.platform == "linux" and TUNABLES not in os.environ and sys.gettrace() is None:
        os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
