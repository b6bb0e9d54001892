"""Runs of several processes on this machine: the same numbers as of one, and one end for all."""

import contextlib
import http.server
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from jax._src.clusters import cloud_tpu_cluster

from research import cli, lock
from research import config as configs
from research.checkpoints.folder import absolute, steps_in
from research.commands import processes as flags_of_a_run
from research.errors import UserError
from research.sharding import processes
from research.training import loop
from tests import helpers
from tests.integration.conftest import TASKS, write_config, write_lines

ROOT = Path(__file__).parents[2]
STEPS = 24
LAUNCH = (  # as launch.py, and dead when the tests are
    "import ctypes, sys; from research import cli; "
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9); "
    "sys.exit(cli.main(sys.argv[1:]))"
)
SLOW = (  # half a second a batch, so that there is time to stop it
    "import time; from research.training import loop; read = loop.Ahead.__next__; "
    "loop.Ahead.__next__ = lambda ahead: (time.sleep(0.5), read(ahead))[1]; "
)
ASKED_EARLY = (  # SIGTERM to the second process, before its first step has begun
    "import os, signal, sys, time; from research.training import loop; "
    "read, asked = loop.Ahead.__next__, []; "
    "ask = lambda: (asked.append(1), os.kill(os.getpid(), signal.SIGTERM), time.sleep(2)); "
    "loop.Ahead.__next__ = lambda ahead: "
    "('--process_id=1' in sys.argv and not asked and ask(), read(ahead))[1]; "
)
IMPATIENT = "from research.sharding import processes; processes.TIMEOUT = 3; "


@contextlib.contextmanager
def port() -> Iterator[int]:
    """A free port, kept from all but servers that share it, as jax's coordinator does."""
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def started(
    folder: Path, *commands: list[str], devices: int = 1, before: str = "", apart: bool = False
):
    """A process for each command; none of them outlives the block.

    What process i prints goes to FOLDER/i.txt. apart: each has a current folder of its own.
    """
    env = helpers.child_environment(devices) | {"PYTHONPATH": str(ROOT)}
    folder.mkdir(exist_ok=True)
    made = []
    try:
        for i, command in enumerate(commands):
            current = folder / str(i) if apart else ROOT
            current.mkdir(exist_ok=True)
            with open(folder / f"{i}.txt", "w") as output:
                made.append(
                    subprocess.Popen(
                        [sys.executable, "-c", before + LAUNCH, *command],
                        cwd=current,
                        env=env,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield made
    finally:
        for process in made:
            process.kill()
            process.wait()


def flags(number: int, i: int, count: int) -> list[str]:
    return [f"--coordinator=localhost:{number}", f"--process_id={i}", f"--num_processes={count}"]


def ends(made: list[subprocess.Popen], seconds: float) -> list[int]:
    """The exit codes of processes that end in this time."""
    until = time.monotonic() + seconds
    return [process.wait(max(0.1, until - time.monotonic())) for process in made]


def printed(folder: Path, i: int) -> str:
    return (folder / f"{i}.txt").read_text()


def together(folder: Path, count: int, *command: str, devices: int = 1) -> list[str]:
    """What the processes of a run print, all of which must end well."""
    if count == 1:
        commands = [list(command)]
        holding = contextlib.nullcontext(0)
    else:
        holding = port()
    with holding as number:
        if count > 1:
            commands = [[*command, *flags(number, i, count)] for i in range(count)]
        with started(folder, *commands, devices=devices) as made:
            codes = ends(made, 300)
    found = [printed(folder, i) for i in range(count)]
    assert codes == [0] * count, "\n".join(found)
    return found


def config(folder: Path, kind: str, **train) -> str:
    """A config file of a tiny run whose params are split over all devices."""
    folder.mkdir(exist_ok=True)
    family, rows, task = TASKS.get(kind, (kind, [], {}))
    changes = {"steps": STEPS, "checkpoint_every": STEPS, "log_every": 1, "eval_every": 12}
    values = helpers.run_values(family, folder, **changes | train)
    if task:
        del values["objective"]
        source = "files:" + write_lines(folder / "examples.jsonl", rows)
        values["data"] |= {"train": source, "validation": source}
        values["task"] = task
    values["mesh"] = {"data": 1, "fsdp": -1}
    return write_config(folder / "config.py", values)


def metrics(workdir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_numbers(workdir: Path, other: Path) -> None:
    """The same numbers at the same steps, but for the order in which devices are summed."""
    ours, theirs = metrics(workdir), metrics(other)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=2e-4), f"step {a['step']}"


def test_two_processes_train_a_task_as_one_does(tmp_path):
    train = {"steps": 4, "checkpoint_every": 4, "log_every": 1, "eval_every": 2}
    file = config(tmp_path / "data", "sentiment", **train, best="macro_recall")
    one, two = tmp_path / "one", tmp_path / "two"
    start = configs.load(config(tmp_path / "start", "bert", steps=1, checkpoint_every=1), {})
    loop.train(start, str(tmp_path / "begun"), quiet=True)
    given = {"init_from": str(tmp_path / "begun"), "model.preset": "checkpoint"}
    given |= {"tokenizer.kind": "checkpoint"}
    loop.train(configs.load(file, given), str(one), quiet=True)
    changed = [f"--config.{key}={value}" for key, value in given.items()]
    command = ["train", f"--config={file}", *changed, f"--workdir={two}"]
    first, second = together(tmp_path / "log", 2, *command)
    assert_same_numbers(two, one)
    assert "validation/macro_recall" in metrics(two)[-1]
    assert "done: step 4" in first and "step 4" not in second, "only the first one tells"
    assert "process 1/2, coordinator localhost:" in second


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """kind -> (config file, workdir) of a run of one process."""
    made = {}

    def get(kind: str) -> tuple[str, Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            file = config(folder / "data", kind)
            command = ["train", f"--config={file}", f"--workdir={folder / 'one'}"]
            together(folder / "log", 1, *command, devices=2)
            made[kind] = file, folder / "one"
        return made[kind]

    return get


def wait_for_step(workdir: Path, step: int, made: list[subprocess.Popen]) -> None:
    """Returns when the step is logged; fails where a process has ended before."""
    until = time.monotonic() + 240
    while not (workdir / "metrics.jsonl").exists() or metrics(workdir)[-1:] == []:
        time.sleep(0.2)
        assert time.monotonic() < until and all(p.poll() is None for p in made)
    while metrics(workdir)[-1]["step"] < step:
        time.sleep(0.2)
        assert time.monotonic() < until and all(p.poll() is None for p in made)


@pytest.mark.long
@pytest.mark.parametrize(
    ("asked", "number"),
    [((0, 1), signal.SIGINT), ((1,), signal.SIGTERM), ((0,), signal.SIGINT)],
    ids=["Ctrl-C, all", "SIGTERM, one", "Ctrl-C, the first"],
)
def test_all_stop_at_one_step_whoever_was_asked(whole, tmp_path, asked, number):
    file, one = whole("bert")
    workdir = tmp_path / "run"
    command = ["train", f"--config={file}", f"--workdir={workdir}"]
    with port() as at:
        commands = [[*command, *flags(at, i, 2)] for i in range(2)]
        with started(tmp_path / "log", *commands, before=SLOW) as made:
            wait_for_step(workdir, 4, made)
            for i in asked:
                made[i].send_signal(number)
            codes = ends(made, 60)
    first, second = (printed(tmp_path / "log", i) for i in range(2))
    assert codes == [130, 130], first + second
    (step,) = steps_in(absolute(str(workdir / "checkpoints")))
    assert 4 <= step < STEPS
    assert f"stopped at step {step}" in first and "stopped" not in second
    together(tmp_path / "log", 1, *command)
    assert_same_numbers(workdir, one)


@pytest.mark.long
def test_a_notice_before_the_first_step_of_a_resumed_run_is_honoured(tmp_path, monkeypatch):
    file = config(tmp_path / "data", "bert")
    read, batches = loop.Ahead.__next__, []

    def stop_at_the_second(ahead):
        batches.append(ahead)
        if len(batches) == 2:
            signal.raise_signal(signal.SIGTERM)
        return read(ahead)

    monkeypatch.setattr(loop.Ahead, "__next__", stop_at_the_second)
    with pytest.raises(loop.Interrupted, match="step 2"):
        loop.train(configs.load(file, {}), str(tmp_path / "run"), quiet=True)
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    with port() as at:
        commands = [[*command, *flags(at, i, 2)] for i in range(2)]
        with started(tmp_path / "log", *commands, before=ASKED_EARLY) as made:
            codes = ends(made, 120)
    assert codes == [130, 130], [printed(tmp_path / "log", i) for i in range(2)]
    assert steps_in(absolute(str(tmp_path / "run" / "checkpoints"))) == [2, 3]


def last_lines(folder: Path, count: int) -> list[str]:
    return [printed(folder, i).splitlines()[-1] for i in range(count)]


@pytest.mark.long
@pytest.mark.parametrize("who", ["the first", "another"])
def test_one_of_four_dies_the_others_say_which_and_the_run_goes_on_with_less(whole, tmp_path, who):
    killed = 0 if who == "the first" else secrets.choice([1, 2, 3])
    file, one = whole("bert")
    workdir = tmp_path / "run"
    command = ["train", f"--config={file}", f"--workdir={workdir}"]
    every = "--config.train.checkpoint_every=4"
    with port() as at:
        commands = [[*command, every, *flags(at, i, 4)] for i in range(4)]
        with started(tmp_path / "log", *commands, before=SLOW) as made:
            wait_for_step(workdir, 6, made)
            made[killed].kill()
            codes = ends(made, 60)
    assert all(codes), codes
    for i, line in enumerate(last_lines(tmp_path / "log", 4)):
        if i != killed:
            assert line.startswith(f"error: process {killed}/4 (")
            assert "died without a word: killed (SIGKILL" in line
    assert max(steps_in(absolute(str(workdir / "checkpoints")))) >= 4
    again = together(tmp_path / "log", 2, *command)
    if killed == 0:  # it held the lock; where it outlives another one it may still give it back
        assert "taken over from the process" in again[0]
    assert "at step 4" in again[0]
    assert_same_numbers(workdir, one)


@pytest.mark.long
def test_all_refuse_a_workdir_where_another_run_is_at_work(tmp_path):
    file = config(tmp_path / "data", "bert")
    workdir = tmp_path / "run"
    command = ["train", f"--config={file}", f"--workdir={workdir}"]
    with port() as at, lock.alone(absolute(str(workdir)), lock.TRAINING):
        commands = [[*command, *flags(at, i, 2)] for i in range(2)]
        with started(tmp_path / "log", *commands) as made:
            codes = ends(made, 120)
        assert [file.name for file in workdir.iterdir()] == [lock.TRAINING]
    assert codes == [2, 2]
    for i in range(2):
        assert f"the process {os.getpid()} on host" in printed(tmp_path / "log", i)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sentiment", "story", "answers", "entities"])
def test_two_processes_evaluate_every_kind_of_task_as_one_does(tiny, tmp_path, kind):
    run = tiny(kind)
    recorded = []
    for count in (1, 2):
        output = tmp_path / f"{count}.jsonl"
        command = ["evaluate", f"--checkpoint={run.checkpoint}", f"--output={output}"]
        found = together(tmp_path / "log", count, *command, devices=2 // count)
        assert ["written: " in text for text in found] == [True, False][:count]
        record = Path(run.checkpoint) / "evaluation_validation.json"
        recorded.append(json.loads(record.read_text())["metrics"])
    assert recorded[1] == pytest.approx(recorded[0], rel=1e-4)
    alone, both = (
        [
            {key: value for key, value in json.loads(line).items() if isinstance(value, str)}
            for line in (tmp_path / f"{count}.jsonl").read_text().splitlines()
        ]
        for count in (1, 2)
    )
    assert alone and both == alone, "ids, labels and texts"


WRONG = [
    (["--process_id=1"], "--process_id=1 without --coordinator and --num_processes"),
    (["--coordinator=a:1", "--num_processes=2"], "without --process_id"),
    (["--coordinator=a:1", "--num_processes=2", "--process_id=2"], "must be from 0 to 1"),
    (["--coordinator=a:1", "--num_processes=2", "--process_id=-1"], "whole number of at least 0"),
    (["--coordinator=a", "--num_processes=2", "--process_id=0"], "HOST:PORT"),
    (["--coordinator=a:b", "--num_processes=2", "--process_id=0"], "HOST:PORT"),
    (["--num_processes=0"], "whole number of at least 1"),
]


@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize(("given", "words"), WRONG, ids=[" ".join(given) for given, _ in WRONG])
def test_flags_that_do_not_fit_together_say_so(verb, given, words, capsys):
    required = [f"--{flag}=x" for flag in cli.VERBS[verb].required]
    assert cli.main([verb, *required, *given]) == 2
    assert words in capsys.readouterr().err


SLURM = {
    "SLURM_JOB_ID": "4096",
    "SLURM_STEP_NODELIST": "node[07-09]",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


@pytest.mark.smoke
def test_a_cluster_is_found_and_one_of_a_single_process_is_none(monkeypatch):
    assert processes.find() is None, "no cluster here"
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found = processes.find()
    assert (found.process, found.count, found.devices) == (2, 3, (0,))
    assert found.coordinator == "node07:61440"
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x3)")
    assert processes.find().devices is None, "alone on its node it has all of its devices"
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert processes.find() is None


@pytest.mark.parametrize(
    ("uri", "coordinator"),
    [
        ("1531576320.0;tcp://10.96.0.1,10.148.0.1:34911", "10.96.0.1:"),
        ("1314521088.0;tcp6://[fe80::b9b:ac5d:9cf0:b858]:43370", "fe80::b9b:ac5d:9cf0:b858:"),
    ],
)
def test_processes_of_open_mpi_find_each_other(monkeypatch, uri, coordinator):
    sizes = {"SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
    for name, value in sizes.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", uri)
    found = processes.find()
    assert (found.process, found.count, found.devices) == (3, 4, (1,))
    assert found.coordinator.startswith(coordinator)


@pytest.fixture
def metadata(monkeypatch):
    """A stand-in for the metadata server of a TPU VM: what it answers, by attribute."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.rpartition("/")[2])
            self.send_response(200 if answer is not None else 404)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
        monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
        yield answers
        server.shutdown()


def test_workers_of_a_tpu_vm_find_each_other(metadata):
    metadata |= {
        "agent-worker-number": "2",
        "worker-network-endpoints": "x:1:127.0.0.1,x:2:10.0.0.2,x:3:10.0.0.3,x:4:10.0.0.4",
        "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-16'",
    }
    found = processes.find()
    assert (found.coordinator, found.process, found.count) == ("127.0.0.1:8482", 2, 4)
    assert found.devices is None
    metadata["tpu-env"] += (
        "\nMEGASCALE_COORDINATOR_ADDRESS: 'localhost:8080'"
        "\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'"
    )
    found = processes.find()
    assert (found.coordinator, found.process, found.count) == ("localhost:8482", 6, 8)


def test_workers_of_a_tpu_node_pool_find_each_other(metadata, monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,worker-1")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    metadata["tpu-env"] = ""
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # as the node pool sets it
    found = processes.find()
    assert (found.coordinator, found.process, found.count) == ("localhost:8482", 1, 2)


def test_a_pod_that_is_not_of_an_indexed_job_is_alone(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert processes.find() is None


def test_a_run_alone_waits_for_nobody(monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: pytest.fail("initialised"))
    assert processes.first()
    processes.together("nowhere")
    processes.same("nothing", {"a": 1}, "")
    for flags in ({}, {"num_processes": 1}):
        flags_of_a_run.join(**flags)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([["--config.seed=1"], ["--config.seed=2"]], "  seed: 1 in process 0, 2 in process 1"),
        pytest.param(
            [["--config.mesh.fsdp=3"]] * 2,
            "mesh (data=1, fsdp=3, context=1, tensor=1): the given sizes multiply to 3",
            marks=pytest.mark.long,
        ),
        pytest.param(
            [["--config.train.batch_size=432"]] * 2,
            "is 9 rows of 48, which 2 devices x config.train.accumulation=2 do not divide",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_does_not_fit_is_said_by_all_before_training(tmp_path, changes, words):
    file = config(tmp_path / "data", "bert")
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    with port() as at:
        commands = [[*command, *changes[i], *flags(at, i, 2)] for i in range(2)]
        with started(tmp_path / "log", *commands) as made:
            codes = ends(made, 120)
    found = [printed(tmp_path / "log", i) for i in range(2)]
    assert codes == [2, 2], found
    assert all(words in text for text in found), found
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("i", "words"), [(0, "not all 2 processes have joined"), (1, "nobody answers at localhost:")]
)
def test_a_process_that_waits_in_vain_gives_up_with_a_hint(tmp_path, i, words):
    file = config(tmp_path / "data", "bert")
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    with port() as at:
        commands = [[*command, *flags(at, i, 2)]]
        with started(tmp_path / "log", *commands, before=IMPATIENT) as made:
            assert ends(made, 60) == [2]
    assert words in printed(tmp_path / "log", 0)


@pytest.mark.long
def test_folders_that_are_not_shared_are_noticed(tmp_path):
    file = config(tmp_path / "data", "bert")
    with port() as at:
        commands = [
            ["train", f"--config={file}", "--workdir=run", *flags(at, i, 2)] for i in range(2)
        ]
        with started(tmp_path / "log", *commands, apart=True) as made:
            codes = ends(made, 120)
    found = [printed(tmp_path / "log", i) for i in range(2)]
    assert codes == [2, 2], found
    assert all("is there: True in process 0, False in process 1" in text for text in found)


def under_open_mpi_5(monkeypatch, size: str = "2", on_machine: str = "2") -> None:
    """The variables of its mpirun in process 1."""
    told = {"SIZE": size, "RANK": "1", "LOCAL_RANK": "1", "LOCAL_SIZE": on_machine}
    for name, value in told.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    monkeypatch.setenv("PMIX_NAMESPACE", "prterun-host-1234@1")


def test_processes_of_open_mpi_5_on_one_machine_find_each_other(monkeypatch):
    under_open_mpi_5(monkeypatch)
    place = processes.find()
    assert (place.process, place.count, place.devices) == (1, 2, (1,))
    host, _, number = place.coordinator.rpartition(":")
    assert host == "127.0.0.1" and int(number) >= 61440
    monkeypatch.setenv("PMIX_NAMESPACE", "prterun-host-1235@1")
    assert processes.find().coordinator != place.coordinator, "another job has another port"


@pytest.mark.parametrize(("size", "rank"), [("PMI_SIZE", "PMI_RANK"), ("WORLD_SIZE", "RANK")])
def test_processes_that_do_not_find_each_other_do_not_train_each_alone(monkeypatch, size, rank):
    monkeypatch.setenv(rank, "0")
    monkeypatch.setenv(size, "1")
    assert processes.find() is None
    monkeypatch.setenv(size, "4")
    with pytest.raises(UserError, match=rf"4 processes .*\n.*--process_id=\${rank} "):
        processes.find()


def test_a_host_that_does_not_resolve_is_named(monkeypatch, capfd):
    monkeypatch.setattr(os, "_exit", lambda code: None)
    processes._give_up(processes.Place("no-such-host.invalid:1234", 1, 2))
    assert "the name 'no-such-host.invalid' does not resolve on" in capfd.readouterr().err
