#!/usr/bin/env bash
# jax 0.10.2: a folder of compiled programs that was filled without a size limit stores no further
# program once jax_compilation_cache_max_size is set. Each entry needs a file with its access time
# beside it, which only a process with a limit writes; one entry without it and every later write
# fails (FileNotFoundError ...-atime, shown as a UserWarning: "Error writing persistent compilation
# cache entry"), also when the limit is far away. A process that is killed between the two writes
# leaves such an entry too. Every start then compiles again, for ever.
# Expected: an entry without an access time counts as the oldest one.
# Matters to whoever adds the limit to an existing cache, or shares a folder between runs with and
# without it.
#
# Run: bash findings/jax_cache_limit_after_no_limit.sh  (installs into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 filelock==3.16.1 2>/dev/null
cat > "$folder/compile.py" <<'PYTHON'
import sys

import jax

folder, number, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jax.config.update("jax_compilation_cache_dir", folder)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_compilation_cache_max_size", limit)  # -1: none
jax.jit(lambda x: x * number)(1.0)
PYTHON
entries() { find "$1" -name "*-cache" | wc -l; }
compile() { JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/compile.py" "$@" 2>"$folder/said"; }

compile "$folder/limited" 2 1000000000
compile "$folder/limited" 3 1000000000
echo "always with a limit: $(entries "$folder/limited") entries after two programs"
compile "$folder/mixed" 2 -1
compile "$folder/mixed" 3 1000000000
echo "first without a limit: $(entries "$folder/mixed") entries after two programs;" \
	"$(grep -c 'Error writing persistent compilation cache entry' "$folder/said") warnings"
[ "$(entries "$folder/limited")" -eq 2 ] && [ "$(entries "$folder/mixed")" -eq 1 ] \
	&& grep -q "FileNotFoundError" "$folder/said" || { echo "the behaviour has changed"; exit 1; }
echo "as described above"
