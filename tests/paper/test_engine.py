"""Jobs run side by side in processes of their own, or one after another here; failures name their log."""

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import pytest

from poster_ada.errors import InputError
from poster_ada.paper import engine
from poster_ada.paper.engine import Engine, run_jobs

submits = pytest.mark.skipif(not engine.can_submit(), reason="submitit is not installed, or this is Windows")


@pytest.mark.slow
@submits
def test_jobs_have_processes_with_one_thread_each(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = [os.getpid, os.getpid, partial(os.getenv, "OMP_NUM_THREADS")]
    found = list(run_jobs(jobs, tmp_path / "jobs", Engine(workers=2)))
    (threads,) = [value for value in found if isinstance(value, str)]
    places = {value for value in found if value != threads}
    assert threads == "1" and len(places) == 2 and os.getpid() not in places
    assert "OMP_NUM_THREADS" not in os.environ and any((tmp_path / "jobs").iterdir())


@submits
def test_a_failed_job_names_its_log_and_the_others_are_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(InputError, match=r"see .*\.err: .*invalid literal"):
        list(run_jobs([partial(int, "x"), partial(os.system, "exec sleep 300")], tmp_path, Engine()))


@pytest.mark.slow
@submits
def test_a_stopped_job_is_told(tmp_path):
    killed = partial(os.system, "kill -9 $PPID")  # as by a machine that runs out of memory
    with pytest.raises(InputError, match="a run failed, see .*has not produced any output"):
        list(run_jobs([killed, os.getpid], tmp_path, Engine()))


def test_without_submitit_jobs_run_here_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert list(run_jobs([os.getpid] * 2, tmp_path / "jobs", Engine(workers=2))) == [os.getpid()] * 2
    assert not (tmp_path / "jobs").exists()
    with pytest.raises(InputError, match="needs submitit"):
        Engine("slurm")


def test_one_worker_needs_no_process(tmp_path):
    assert list(run_jobs([os.getpid], tmp_path, Engine(workers=1))) == [os.getpid()]


def test_nonsense_is_refused():
    for wrong in ({"workers": 0}, {"minutes": 0}, {"gpus": -1}):
        with pytest.raises(InputError, match="at least"):
            Engine(**wrong)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is not installed")
def test_submitit_is_loaded_only_where_it_is_used():
    code = "import sys, poster_ada.study, poster_ada.paper.ferplus_runs; print('submitit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
