"""What a launcher was asked for is compared with what is there; what one process raises, all raise."""

import pytest
import torch
from accelerate import Accelerator

from spiral.api.errors import RunError
from spiral.learning import distributed
from spiral.learning.distributed import Processes, make_accelerator
from spiral.learning.stop_signals import StopRequested, StopSignals


@pytest.fixture
def started(monkeypatch):
    """The environment of the first of several processes that torchrun started, on a machine with some GPUs."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)

    def start(num, num_devices):
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: num_devices)
        group = {"WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "RANK": 0, "LOCAL_RANK": 0}
        for key, value in {**group, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}.items():
            monkeypatch.setenv(key, str(value))

    return start


class Told:
    """Stands for accelerate's Accelerator, and makes a group of one."""

    num_processes = 1
    made: list = []  # noqa: RUF012

    def __init__(self, **options):
        self.made.append(options)


def test_more_processes_than_gpus_are_refused(started):
    started(4, num_devices=2)
    with pytest.raises(RunError, match="4 processes were started on a machine with 2 accelerators; start 2, or set"):
        make_accelerator()


@pytest.mark.parametrize(("num_devices", "use_cpu", "on_cpu"), [(0, None, True), (2, None, False), (1, "true", True)])
def test_a_group_of_another_size_is_refused(started, monkeypatch, num_devices, use_cpu, on_cpu):
    """Whatever accelerate made of it; without a GPU it is asked for a group on the CPU."""
    started(2, num_devices)
    if use_cpu:
        monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    monkeypatch.setattr(distributed, "Accelerator", Told)
    Told.made = []
    with pytest.raises(
        RunError, match="2 processes were asked for, and accelerate made a group of 1; start them with: "
    ):
        make_accelerator()
    [made] = Told.made
    assert (made["mixed_precision"], made["cpu"]) == ("no", on_cpu)


def test_one_process_alone_needs_no_launcher(monkeypatch):
    for key in ("WORLD_SIZE", "MASTER_ADDR", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(key, raising=False)
    assert make_accelerator().num_processes == 1


def test_what_another_process_raises_is_raised_here(monkeypatch):
    """By the error that it gathered: a signal to one of them stops all at the same step."""
    processes, told = Processes(Accelerator(cpu=True), StopSignals()), []
    monkeypatch.setattr(Processes, "world", 2)

    def gather(objects):
        told.extend(objects)
        return [*objects, StopRequested(15)]

    monkeypatch.setattr(distributed, "gather_object", gather)
    with pytest.raises(StopRequested), processes.together():
        pass
    with pytest.raises(RunError), processes.together():
        raise RunError("mine")
    assert [type(one) for one in told] == [type(None), RunError]


def test_a_run_leaves_only_a_group_that_it_made(monkeypatch):
    """A process alone may hold the group of an engine, which needs it until it is shut down itself."""
    left = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append(1))
    processes = Processes(Accelerator(cpu=True), StopSignals())
    processes.close()
    assert not left
    monkeypatch.setattr(Processes, "world", 2)
    processes.close()
    assert left == [1]


def test_the_end_of_another_process_is_one_sentence():
    """gloo's error has no type of its own; an error of the run itself stays what it is."""
    with (
        pytest.raises(
            RunError, match=r"ended, or did not answer within process_deadline_s=30 s \(.*closed.*with: go on"
        ),
        distributed.told_of_lost_processes(30, "go on"),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    for mine in (RuntimeError("shapes differ"), RunError("gloomy")):
        with pytest.raises(type(mine), match=str(mine)), distributed.told_of_lost_processes(30, "go on"):
            raise mine
