"""Plans made by the Python of another environment."""

import os
import subprocess
from pathlib import Path


def plan(python: Path, config: str, *flags: str, code: int = 0) -> str:
    """What `launch.py plan` prints in another environment, which must end with `code`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        [python, "launch.py", "plan", f"--config={config}", *flags],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == "", "the compiler's log reaches the user"
    return done.stdout
