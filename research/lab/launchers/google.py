"""Checks names, projects, zones and TPU types before Google Cloud can refuse them."""

import re

from research.errors import UserError, nearest
from research.lab.launchers.request import Request

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]")
ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
BUCKET = re.compile(r"gs://[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]/.+")

# TPU sizes by family, in chips for v5litepod and v6e, in TensorCores (two per chip) for the others.
# cloud.google.com/tpu/docs/v5e and its siblings; xpk 1.16 has the same sizes.
SIZES: dict[str, tuple[int, ...]] = {
    "v2": (8, 32, 128, 256, 512),
    "v3": (8, 32, 64, 128, 256, 512, 1024, 2048),
    "v4": (8, 16, 32, *range(64, 4097, 64)),
    "v5litepod": (1, 4, 8, 16, 32, 64, 128, 256),
    "v5p": (8, 16, 32, 64, *range(128, 12289, 128)),
    "v6e": (1, 4, 8, 16, 32, 64, 128, 256),
}
# cloud.google.com/tpu/docs/runtimes, for jax
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


def family(flag: str, tpu: str) -> str:
    """Returns the family of a type such as "v5litepod-16". Raises UserError for an unknown type."""
    name, _, size = tpu.rpartition("-")
    if name not in SIZES:
        if name == "v5e":  # its usual name elsewhere
            raise UserError(f"--on.{flag}={tpu}: write v5litepod-{size}")
        known = [f"{n}-{sizes[-1]}" for n, sizes in SIZES.items()]
        raise UserError(f"--on.{flag}={tpu} is not a type of TPU{nearest(tpu, known)}")
    if size not in map(str, SIZES[name]):
        valid = ", ".join(map(str, SIZES[name][:12]))
        raise UserError(f"--on.{flag}={tpu} is not a size of {name}; valid: {valid} …")
    return name


def one_host(tpu: str) -> bool:
    """Whether a slice of a TPU type is a single machine."""
    name, _, size = tpu.rpartition("-")
    return int(size) <= (4 if name in ("v5litepod", "v6e") else 8)


def check_place(project: str, zone: str) -> None:
    """Raises UserError for an invalid project id or zone."""
    if not PROJECT.fullmatch(project):
        raise UserError(
            f"--on.project={project} is not a project id: 6 to 30 lower-case letters, digits and "
            "hyphens, a letter first; `gcloud projects list` shows yours"
        )
    if not ZONE.fullmatch(zone):
        raise UserError(
            f"--on.zone={zone} is not a zone, such as us-west4-a; "
            "`gcloud compute tpus locations list` shows those with TPUs"
        )


def name_of(option: str, workdir: str, most: int) -> str:
    """Returns the cloud's name for a launch: that of the option, or one derived from the workdir.

    Raises UserError for a name that the cloud refuses; `most`: maximum number of characters.
    """
    rule = f"lower-case letters, digits and hyphens, a letter first, at most {most} characters"
    if option:
        if not NAME.fullmatch(option) or len(option) > most:
            raise UserError(f"--on.name={option} would be refused: {rule}, no hyphen last")
        return option
    last = workdir.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    if not NAME.fullmatch(name) or len(name) > most:
        raise UserError(
            f"--workdir={workdir} gives no name that the cloud accepts ({rule}); "
            "give one: --on.name=…"
        )
    return name


def check(request: Request, target: str, flag: str, tpu: str, slices: int = 1) -> str:
    """Returns the family of the machines of `--on.FLAG=TPU`. Raises UserError for an unknown type,
    or a request that such machines cannot run."""
    name = family(flag, tpu)
    if request.verb == "experiment" and not one_host(tpu):
        raise UserError(
            f"--on.{flag}={tpu} is several machines, and an experiment starts its runs on one; "
            "take a smaller slice, or launch its runs one by one with `launch.py train`"
        )
    if request.verb == "experiment" and slices > 1:
        raise UserError(
            f"--on.num_slices={slices}: an experiment starts its runs on one machine; "
            "launch its runs one by one with `launch.py train`"
        )
    if not BUCKET.fullmatch(request.workdir):
        raise UserError(
            f"--workdir={request.workdir}: a machine of --on={target} loses its disk when it ends; "
            "give a folder on a bucket: --workdir=gs://BUCKET/runs/NAME"
        )
    return name
