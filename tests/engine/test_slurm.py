"""The scripts for Slurm in a Slurm of this machine: one node, two GPUs.

The GPUs are two character devices, so the processes communicate through gloo.
"""

import getpass
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import ROOT, blocks
from mmengine.fileio import load as read_file
from small_runs import (
    RETINANET,
    draw,
    free_port,
    load,
    outcome,
    pair,
    same,
    small,
    write,
)

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'srun')
# Debian has the daemons where only root's PATH leads.
PATH = f'{os.environ["PATH"]}:/usr/sbin'
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name, path=PATH) for name in PROGRAMS),
        reason='Slurm is not installed: apt-get install slurm-wlm munge',
    ),
]
CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmdPort={other}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost CPUs=4 Gres=gpu:2
PartitionName=here Nodes=localhost
"""
GRES = 'Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n'
# Sends a signal to its own job once, in the second epoch.
PREEMPTION = """
import os, subprocess, time
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Preemption(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        done = Path(runner.work_dir, 'preempted')
        if runner.rank == 0 and runner.iter == 3 and not done.exists():
            done.touch()
            signal = f'--signal={os.environ["SIGNAL"]}'
            job = os.environ['SLURM_JOB_ID']
            subprocess.run(['scancel', signal, job], check=True)
        if runner.iter == 3:
            time.sleep(2)
"""


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """Variables for commands of a Slurm that runs while the tests do."""
    folder = tmp_path_factory.mktemp('slurm')
    conf = folder / 'slurm.conf'
    ports = dict(port=free_port(), other=free_port())
    conf.write_text(
        CONF.format(folder=folder, user=getpass.getuser(), **ports)
    )
    (folder / 'gres.conf').write_text(GRES)
    key = folder / 'munge.key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = [
        f'--{name}={folder}/munge.{name.partition("-")[0]}'
        for name in ('key-file', 'log-file', 'pid-file', 'seed-file', 'socket')
    ]
    variables = {**os.environ, 'PATH': PATH, 'SLURM_CONF': str(conf)}
    with ExitStack() as stack:
        for command in (
            ['munged', '--foreground', '--force', *files],
            ['slurmctld', '-D', '-i'],
            ['slurmd', '-D', '-N', 'localhost'],
        ):
            log = stack.enter_context((folder / f'{command[0]}.out').open('w'))
            daemon = subprocess.Popen(
                command, env=variables, stdout=log, stderr=log
            )
            stack.callback(daemon.wait, 20)
            stack.callback(daemon.terminate)
            time.sleep(1)
        wait_for_node(variables, folder)
        yield variables


def wait_for_node(variables, folder):
    """Return when jobs can start; what the daemons say if they cannot."""
    for _ in range(30):
        state = subprocess.run(
            ['sinfo', '--noheader', '--format=%t %G'],
            env=variables,
            capture_output=True,
            text=True,
        ).stdout
        if state == 'idle gpu:2\n':
            return
        time.sleep(1)
    logs = [*folder.glob('*.out'), *folder.glob('*.log')]
    said = [f'{log.name}: {log.read_text()[-1500:]}' for log in logs]
    pytest.fail('\n'.join([f'node: {state}', *said]))


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config of two epochs, two iterations each for two processes."""
    folder = tmp_path_factory.mktemp('detector')
    (folder / 'preemption.py').write_text(PREEMPTION)
    options = {'train_cfg.max_epochs': 2}
    cfg = small(load(RETINANET, **options), draw(folder / 'drawn'), 'coco')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.env_cfg.dist_cfg.port = int(free_port())
    return write(cfg, folder / 'config.py')


@pytest.fixture(scope='module')
def preempted(config):
    """The same, with a signal to its own job in the second epoch."""
    cfg = load(config)
    cfg.custom_hooks = [dict(type='Preemption')]
    names = [*cfg.custom_imports.imports, 'preemption']
    cfg.custom_imports = dict(imports=names)
    return write(cfg, Path(config).parent / 'preempted.py')


@pytest.fixture(scope='module')
def whole(config):
    """The last checkpoint of a training that torchrun's variables start."""
    work = Path(config).parent / 'whole'
    both = pair(config, work, f'{work}.log')
    assert [outcome(process) for process in both] == [0, 0]
    return work / 'epoch_2.pth'


def variables_of(slurm, config, **more):
    """Those with which the scripts find this Python and the modules."""
    return {
        **slurm,
        'GPUS': '2',
        'CPUS_PER_TASK': '1',
        'PYTHON': sys.executable,
        'PYTHONPATH': f'{ROOT}:{Path(config).parent}',
        **more,
    }


def run(slurm, script, config, *words, **more):
    """A script of tools for Slurm -> its exit status, what it printed."""
    done = subprocess.run(
        [ROOT / 'tools' / script, 'here', 'job', config, *map(str, words)],
        env=variables_of(slurm, config, **more),
        cwd=Path(config).parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout + done.stderr


def test_training_and_test(slurm, config, whole, tmp_path):
    """Two processes of srun train as two of torchrun do."""
    as_is = ('--work-dir', tmp_path, '--batch', 'as-is')
    status, _ = run(slurm, 'slurm_train.sh', config, *as_is)
    assert status == 0
    assert same(tmp_path / 'epoch_2.pth', whole)
    out = tmp_path / 'found.pkl'
    words = (tmp_path / 'epoch_2.pth', '--out', out, '--work-dir', tmp_path)
    status, _ = run(slurm, 'slurm_test.sh', config, *words)
    assert status == 0
    assert len(read_file(out)) == 4  # those of both processes


def test_preemption_and_resume(slurm, preempted, whole, tmp_path):
    """scancel --signal=TERM saves; the same command goes on."""
    words = ('--work-dir', tmp_path, '--batch', 'as-is', '--resume')
    script = ('slurm_train.sh', preempted, *words)
    status, said = run(slurm, *script, SIGNAL='TERM')
    assert status == 143, said
    assert (tmp_path / 'preempted').exists()
    assert not (tmp_path / 'epoch_2.pth').exists()
    assert list(tmp_path.glob('iter_*.pth'))
    status, said = run(slurm, *script, SIGNAL='TERM')
    assert status == 0
    assert 'resumed' in said.lower()
    assert same(tmp_path / 'epoch_2.pth', whole)


def test_job_script_of_the_page_queues_itself_again(
    slurm, preempted, whole, tmp_path
):
    """The script of docs/distributed.md, near its time limit."""
    (script,) = (c for _, c in blocks(ROOT / 'docs/distributed.md', 'sh'))
    for old, new in (
        ('=PARTITION', '=here'),
        ('nodes=2', 'nodes=1'),
        ('per-node=8', 'per-node=2'),
        ('cpus-per-task=5', 'cpus-per-task=1'),
        ('python -u tools', f'{sys.executable} -u {ROOT}/tools'),
        (
            'configs/mask_rcnn_mpvit_small_coco.py',
            f'{preempted} --work-dir {tmp_path} --batch as-is',
        ),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / 'job.sh').write_text(script)
    log = tmp_path / 'job.log'
    subprocess.run(
        ['sbatch', '--wait', f'--output={log}', 'job.sh'],
        env=variables_of(slurm, preempted, SIGNAL='USR1'),
        cwd=tmp_path,
        check=True,
        timeout=400,
    )
    assert 'preempted' in os.listdir(tmp_path)
    assert log.read_text().lower().count('resumed') >= 1
    assert same(tmp_path / 'epoch_2.pth', whole)
