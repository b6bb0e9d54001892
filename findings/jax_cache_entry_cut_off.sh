#!/usr/bin/env bash
# jax 0.10.2: an entry of the compilation cache that was cut off (a kill while it was being written:
# entries are written in place, not to another name first) is never replaced. Every later process
# warns ("Error reading persistent compilation cache entry ... incomplete or truncated stream"),
# compiles again, and does not store the result, since a file of that name exists.
# Expected: the entry is written anew after it could not be read.
# Matters to preempted jobs: the program whose entry was cut off compiles at every start from then on.
#
# Run: bash findings/jax_cache_entry_cut_off.sh  (installs into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 2>/dev/null
cat > "$folder/compile.py" <<'PYTHON'
import sys

import jax

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x * 3)(1.0)
PYTHON
compile() { JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/compile.py" "$folder/cache" 2>"$folder/said"; }

compile
entry=$(find "$folder/cache" -name "*-cache")
whole=$(stat -c %s "$entry")
truncate -s $((whole / 2)) "$entry"
for start in 1 2; do
	compile
	echo "start $start after the cut: $(stat -c %s "$entry") of $whole bytes," \
		"$(grep -c 'Error reading persistent compilation cache entry' "$folder/said") warning"
	[ "$(stat -c %s "$entry")" -lt "$whole" ] && grep -q "truncated stream" "$folder/said" \
		|| { echo "the behaviour has changed"; exit 1; }
done
echo "as described above"
