"""Run a command on a disk with a fault, in a mount namespace of its own."""

import ctypes
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

import torch

from pvt_mm import cli
from pvt_mm.checkpoints import atomic

# Imported once; a new process is then there at once.
READY = ('disks', 'mmdet.models', 'mmdet.datasets', 'mmseg.models')
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
DISK = '64m'


def own_mounts():
    """Give this process mounts that no other one has."""
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWNS | (CLONE_NEWUSER if user else 0)
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), 'unshare')
    if user:
        Path('/proc/self/setgroups').write_text('deny')
        Path('/proc/self/uid_map').write_text(f'0 {user} 1')
        Path('/proc/self/gid_map').write_text(f'0 {group} 1')
    mount('--make-rprivate', '/')


def mount(*words):
    subprocess.run(['mount', *map(str, words)], check=True)


def fill(folder):
    """Take all space of a disk."""
    with open(folder / 'other', 'wb', buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def full_at_first_write(folder):
    """Fill a disk before the first file that a command writes whole."""
    plain = atomic.part_for

    @contextmanager
    def part_for(*args):
        if sys._getframe(2).f_code.co_name == 'replacing':
            fill(folder)
        with plain(*args) as part:
            yield part

    atomic.part_for = part_for


def start(words, log, inputs, place, fault='', older=None):
    """A command in a process of its own.

    Args:
        words: the command line.
        log: file of all it prints; with .json, the status and the files.
        inputs: the current folder of the process.
        place: folder in which the fault happens.
        fault: a name of FAULTS.
        older: content of the folder before.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(READY))
    arguments = [list(map(str, words)), log, inputs, place, fault, older]
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def work(words, log, inputs, place, fault, older):
    """What runs in the new process."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    if fault in ('full', 'read-only'):
        own_mounts()
        mount('-t', 'tmpfs', '-o', f'size={DISK}', 'none', place)
    if older:
        shutil.copytree(older, place, symlinks=True, dirs_exist_ok=True)
    before = files(place)
    if fault == 'full':
        full_at_first_write(place)
    if fault == 'read-only':
        mount('-o', 'remount,ro', place)
    os.chdir(inputs)
    sys.argv = ['pvt_mm', *words]
    try:
        status = cli.main()
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = -1
    seen = dict(status=status, before=before, after=files(place))
    log.with_suffix('.json').write_text(json.dumps(seen))


def files(folder):
    """The files below a folder: name -> digest, or target of a link."""
    found = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and name != 'other':
            content = path.read_bytes()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def can_mount():
    """Whether a process may have mounts of its own."""
    context = multiprocessing.get_context('fork')
    process = context.Process(target=own_mounts)
    process.start()
    process.join()
    return process.exitcode == 0
