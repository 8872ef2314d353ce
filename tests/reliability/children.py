"""Processes to be killed: forked from a server that has imported everything and computed nothing, so that each starts
at once.

A job trains or prepares; it may be told to end itself by SIGKILL after some seconds or just before its n-th operation
on a file, and writes down what it was doing into a file that outlives it.
"""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

FILE_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}


@dataclass
class Job:
    """What a child does.

    Attributes:
        action: "train", "prepare", or "command": the command line.
        folder: Where: a run's parent and log, or the store's.
        arguments: Of the command.
        streams: What the command's standard output and error are: one of STREAMS.
        encoding: Theirs.
        environment: What else the command finds in its environment; None removes a name.
        patience: Seconds that the command waits for a reader.
        config: Of the run, as JSON.
        resume: A run folder to go on with.
        evaluate_every_kimg: Measure the generator this often.
        kill_seconds: End by SIGKILL after so many seconds of work.
        kill_phase: End by SIGKILL `kill_seconds` after such a phase began, at its n-th time.
        kill_entry: That n.
        kill_operation: End by SIGKILL just before the n-th operation on a file below `folder`.
        signals: What is sent instead of SIGKILL, one after the other; 0 closes the terminal.
        limit_seconds: A child that takes longer hangs, and ends by SIGALRM.
        processes: How many processes share the work.
        port: Where they meet.
    """

    action: str
    folder: str
    config: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    streams: str = "file"
    encoding: str = "utf-8"
    environment: dict[str, str | None] = field(default_factory=dict)
    patience: float = 0.1
    resume: str | None = None
    evaluate_every_kimg: float = float("inf")
    kill_seconds: float | None = None
    kill_phase: str | None = None
    kill_entry: int = 1
    kill_operation: int | None = None
    signals: list[int] = field(default_factory=lambda: [int(signal.SIGKILL)])
    limit_seconds: int = 120
    processes: int = 1
    port: int = 0


class Children:
    """The server's other end. Use it as a context manager."""

    def __enter__(self) -> "Children":
        paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", "reliability.children"]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(60)

    def run(self, job: Job) -> list[int]:
        """Exit codes of the job's processes, -9 for one that was killed."""
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(asdict(job)), file=self._server.stdin, flush=True)
        line = self._server.stdout.readline()
        assert line, "the server of children died"
        return json.loads(line)


class Evaluated(Protocol):
    """What the evaluation needs of a generator."""

    def sample(self, count: int) -> Any: ...


def serve() -> None:
    """Runs the jobs that come on standard input, one line each."""
    # So that no child spends its life on imports; optimisers import the compiler.
    import torch._dynamo  # noqa: F401

    import vitgan.cli.train
    import vitgan.data.prepare
    import vitgan.data.sources.folder
    import vitgan.runs.evaluation
    import vitgan.runs.train  # noqa: F401

    for line in sys.stdin:
        job = Job(**json.loads(line))
        children = []
        for rank in range(job.processes):
            child = os.fork()
            if child == 0:
                run_and_exit(job, rank)
            children.append(child)
        codes = {}
        while len(codes) < len(children):
            child, status = os.wait()
            codes[child] = os.waitstatus_to_exitcode(status)
        print(json.dumps([codes[child] for child in children]), flush=True)


def run_and_exit(job: Job, rank: int) -> None:
    """A child's life."""
    folder = Path(job.folder)
    log = os.open(folder / f"log{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        if job.processes > 1:
            group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": job.port, "WORLD_SIZE": job.processes}
            group |= {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": job.processes}
            os.environ.update({name: str(value) for name, value in group.items()})
        arm(job, folder)
        signal.alarm(job.limit_seconds)
        {"train": train, "prepare": prepare_images, "command": command}[job.action](job, folder)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        from vitgan.errors import UserError

        print(f"vitgan: {error}" if isinstance(error, UserError) else f"TRACEBACK {error!r}", flush=True)
        code = 2 if isinstance(error, UserError) else 1
        if code == 1:
            import traceback

            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
        os._exit(code)


def die_after(seconds: float, signals: list[int]) -> None:
    """Sends this process its signals in a while."""

    def die() -> None:
        time.sleep(seconds)
        for number in signals:
            os.kill(os.getpid(), number) if number else os.close(_terminals[0])
            time.sleep(0.01)

    threading.Thread(target=die, daemon=True).start()


def arm(job: Job, folder: Path) -> None:
    """Sets the moment of death."""

    if job.kill_seconds is not None and job.kill_phase is None:
        die_after(job.kill_seconds, job.signals)
    if job.kill_operation is not None:
        left = job.kill_operation

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in FILE_OPERATIONS and arguments and str(arguments[0]).startswith(f"{folder}/"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(on_event)


def note(folder: Path, phase: str) -> None:
    """Writes down what the process is doing now; outlives it."""
    descriptor = os.open(f"{folder}.phase", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, phase.encode())
    os.close(descriptor)


def noting(job: Job, phase: str, function: Any) -> Any:
    """The function, with its phase noted while it runs, and death in it if the job says so."""
    folder, entries = Path(job.folder), 0

    def run(*arguments: Any, **options: Any) -> Any:
        nonlocal entries
        note(folder, phase)
        entries += 1
        if job.kill_phase == phase and job.kill_entry == entries and job.kill_seconds is not None:
            die_after(job.kill_seconds, job.signals)
        try:
            return function(*arguments, **options)
        finally:
            note(folder, "between")

    return run


def note_phases(job: Job) -> None:
    """Makes the parts of a training tell what they are."""
    import vitgan.runs.train
    from vitgan.training.loop import Trainer
    from vitgan.training.step import GanStep

    phases = ((GanStep, "__call__", "step"), (Trainer, "save", "checkpoint"), (Trainer, "_log", "log"))
    phases = (*phases, (Trainer, "_write_samples", "samples"), (Trainer, "__post_init__", "building"))
    for owner, method, phase in (*phases, (vitgan.runs.train, "join_processes", "start")):
        setattr(owner, method, noting(job, phase, getattr(owner, method)))


def brightness(generator: Evaluated) -> Any:
    """An evaluation that takes no time."""
    from vitgan.training.hooks import Evaluation

    score = abs(generator.sample(200).mean().item())
    return Evaluation({"brightness": score}, "brightness", score)


def train(job: Job, folder: Path) -> None:
    """Trains, or goes on."""
    from vitgan.config import RunConfig
    from vitgan.runs.train import train
    from vitgan.training.hooks import Hooks

    note_phases(job)
    hooks = Hooks(evaluate=noting(job, "evaluation", brightness), evaluate_every_kimg=job.evaluate_every_kimg)
    train(RunConfig.model_validate(job.config), folder, job.resume, hooks)


def command(job: Job, folder: Path) -> None:
    """What the `vitgan` command does, in other surroundings; files that it makes go to `folder`/files."""
    import vitgan.cli.output
    import vitgan.runs.evaluation
    from vitgan.cli.main import main

    note_phases(job)
    vitgan.runs.evaluation.check_evaluation = lambda *_: None
    vitgan.runs.evaluation.evaluation_of_run = lambda *_: noting(job, "evaluation", brightness)
    vitgan.cli.output.PATIENCE_SECONDS = job.patience
    for name, value in job.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    sys.argv = ["vitgan", *job.arguments]
    STREAMS[job.streams]()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = None if job.streams == "closed" else open(number, "w", encoding=job.encoding, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    main()


def _lead_to(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _no_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    _lead_to(writing)


def _no_reading() -> None:
    _, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    _lead_to(writing)


_terminals: list[int] = []


def _terminal(columns: int = 80, *, read: bool = True) -> None:
    """A terminal of this process's own; when it is closed the process gets SIGHUP."""
    outer, inner = os.openpty()
    _terminals.append(outer)
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.setsid()
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
    log = os.dup(1)
    _lead_to(inner)
    os.close(inner)

    def attend() -> None:
        with suppress(OSError):  # until it is closed
            while True:
                os.write(log, os.read(outer, 4096))

    if read:
        threading.Thread(target=attend, daemon=True).start()


STREAMS: dict[str, Callable[[], Any]] = {
    "file": lambda: None,
    "full": lambda: _lead_to(os.open("/dev/full", os.O_WRONLY)),
    "gone": _no_reader,
    "blocked": _no_reading,
    "closed": lambda: (os.close(1), os.close(2)),
    "terminal": _terminal,
    "narrow terminal": lambda: _terminal(columns=3),
    "stopped terminal": lambda: _terminal(read=False),
}


def prepare_images(job: Job, folder: Path) -> None:
    """Prepares `folder`/images as `folder`/store."""
    import vitgan.data.prepare
    from vitgan.data.sources.folder import ImageFolder

    note(folder, "preparation")
    vitgan.data.prepare.prepare(ImageFolder(folder / "images"), folder / "store", resolution=8, workers=0)


if __name__ == "__main__":
    serve()
