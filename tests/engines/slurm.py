"""A Slurm of two nodes on the loopback, with a munge of its own, all in one folder."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
# Nodes are called by addresses, which resolve anywhere; `lost` has a name that does not.
CONF = """
ClusterName=engines
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=10
ReturnToService=2
MpiDefault=none
NodeName=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=4 RealMemory=4000 State=UNKNOWN
NodeName=127.0.0.2 NodeHostname={host} Port={ports[2]} CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which the cluster answers. Its daemons end with the block."""
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o700)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname(), folder=folder, ports=_ports(3)))
    env = os.environ | {"SLURM_CONF": str(conf)}
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "log", "seed")]
    socket_file = f"--socket={folder}/munge.socket"
    commands = [
        ["munged", "--foreground", "--force", socket_file, f"--pid-file={folder}/pid", *munge],
        ["slurmctld", "-D", "-f", str(conf)],
        *(["slurmd", "-D", "-N", name, "-f", str(conf)] for name in ("127.0.0.1", "127.0.0.2")),
    ]
    daemons: list[subprocess.Popen] = []
    try:
        for command in commands:
            log = open(folder / f"{command[0]}{len(daemons)}.txt", "w")
            # A session of its own: Ctrl-C ends the tests, and they end the daemons.
            daemons.append(
                subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
            )
            if command[0] == "munged":
                _until(lambda: (folder / "munge.socket").exists(), daemons, folder)
        _until(lambda: _idle(env) == 2, daemons, folder)
        yield env
    finally:
        subprocess.run(["scancel", "--me"], env=env, timeout=30, check=False)
        with contextlib.suppress(TimeoutError):
            _until(lambda: not answer(env, "squeue", "--noheader"), daemons, folder)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def answer(env: dict[str, str], *command: str) -> str:
    """What a program of Slurm prints."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def missing() -> list[str]:
    """Its programs that are not installed."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def _idle(env: dict[str, str]) -> int:
    done = subprocess.run(
        ["sinfo", "--noheader", "--states=idle", "--format=%D"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return sum(map(int, done.stdout.split()))


def _until(holds, daemons, folder: Path, seconds: float = 60) -> None:
    """Waits. Raises TimeoutError with what the daemons printed."""
    until = time.monotonic() + seconds
    while not holds():
        dead = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if dead or time.monotonic() > until:
            logs = [f"{file.name}:\n{file.read_text()}" for file in folder.glob("*.txt")]
            raise TimeoutError("\n".join([f"the cluster does not start; ended: {dead}", *logs]))
        time.sleep(0.1)


def _ports(count: int) -> list[int]:
    """Free ones."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
