#!/usr/bin/env bash
# submitit 1.5.4 with absl-py 2.5.1: the first import of submitit sets up logging anew
# (logging.config.dictConfig), which closes all handlers that there are, and absl's handler closes
# its stream unless it is the sys.stderr of that moment. So a program whose stderr was captured when
# absl was imported (a notebook, a test runner, contextlib.redirect_stderr), and is another stream
# when submitit is, loses the captured text: the stream is closed under its owner.
# Expected: importing a library closes no stream that belongs to others.
# Matters to code that launches jobs with submitit beside jax, orbax or tensorflow-datasets, which
# import absl: pytest ends with "I/O operation on closed file" and "lost sys.stderr", and the report
# of the test that failed is lost. Import submitit before stderr is changed.
#
# Run: bash findings/submitit_closes_absl_stream.sh    (installs into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/streams.py" <<'PYTHON'
import contextlib
import importlib.metadata
import io
import sys

print("submitit", importlib.metadata.version("submitit"), "absl-py", importlib.metadata.version("absl-py"))
captured = io.StringIO()
if sys.argv[1] == "submitit first":
    import submitit  # noqa: F401
with contextlib.redirect_stderr(captured):
    from absl import logging

    logging.warning("a warning")
import submitit  # noqa: E402, F811

print(f"{sys.argv[1]}: the captured stream is closed: {captured.closed}")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check submitit==1.5.4 absl-py==2.5.1
for order in "submitit last" "submitit first"; do
    "$folder/venv/bin/python" "$folder/streams.py" "$order" | tee -a "$folder/seen.txt"
done
grep -qx "submitit last: the captured stream is closed: True" "$folder/seen.txt"
grep -qx "submitit first: the captured stream is closed: False" "$folder/seen.txt"
