"""Puts large arrays on huge pages: on CPU a train step takes an eighth to a quarter less time.

XLA allocates its buffers through the C library anew at every step, and the kernel then provides
them page by page, each with a fault (figures in docs/performance.md).
"""

import os
import sys

TUNABLES = "GLIBC_TUNABLES"


def use() -> None:
    """Restarts this program, once, with glibc's allocator on transparent huge pages.

    glibc reads the setting only when a process starts; child processes inherit it. Nothing happens
    on other systems, under a debugger, or if GLIBC_TUNABLES is set already (an empty value switches
    this off).
    """
    if sys.platform == "linux" and TUNABLES not in os.environ and sys.gettrace() is None:
        os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
