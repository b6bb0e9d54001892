"""The command line: `python launch.py VERB --flag=value …`; `launch.py help` lists the verbs."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from research import compile_cache, huge_pages  # noqa: E402
from research.cli import main  # noqa: E402  (the log level must be set before jax is imported)

if __name__ == "__main__":
    huge_pages.use()
    compile_cache.use()
    sys.exit(main(sys.argv[1:]))
