"""Save checkpoints that are complete under their name or not there."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...checkpoints.atomic import PART, AtomicBackend
from ...compat import has_train_loop, is_resuming, val_interval
from ...errors import UsageError, system_error
from ..train_loops import by_epoch
from ..work_dir import move_earlier_checkpoints
from .resume_hook import early_stopping, flat, needs_scores

LAST = 'last_checkpoint'  # mmengine's name
EVALUATED = 'last_evaluation'  # epoch or iteration that has its score


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """CheckpointHook that removes old files after the new one is complete.

    It also saves when a run is stopped, repeats an evaluation that the
    previous run did not finish, and moves the checkpoints of an earlier run
    out of its way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='atomic')

    def before_train(self, runner) -> None:
        """Remove partial files; repeat an unfinished evaluation."""
        super().before_train(runner)
        info = runner.message_hub.runtime_info
        if is_resuming(runner) and runner.cfg.get('load_from'):
            # the checkpoint of a work dir that was copied names the old one
            info['last_ckpt'] = runner.cfg.load_from
        self.last_ckpt = info.get('last_ckpt')
        self.first = not is_resuming(runner) and '://' not in self.out_dir
        if is_main_process():
            for part in Path(self.out_dir).glob(f'{PART}*'):
                part.unlink()
        if runner.iter and self.misses_evaluation(runner):
            print_log('The last evaluation is done again.', 'current')
            runner.val_loop.run()

    def misses_evaluation(self, runner) -> bool:
        """Whether the checkpoint is older than the evaluation due here.

        Or the previous run did not finish it.
        """
        if runner.val_loop is None:
            return False
        loop, place = runner.train_loop, progress(runner)
        end = loop.max_epochs if by_epoch(runner) else loop.max_iters
        due = place == end or place % val_interval(loop) == 0
        if place < loop.val_begin or not due:
            return False
        if runner.message_hub.runtime_info.get(EVALUATED) == place:
            return False  # it was stopped later, in the next epoch
        if learns_from_scores(runner):
            return True  # the checkpoint is older than their last score
        path = Path(runner.work_dir, EVALUATED)
        done = int(path.read_text()) if path.is_file() else -1
        # the same answer in all processes
        answer = [done < place]
        broadcast_object_list(answer)
        return answer[0]

    def after_val_epoch(self, runner, metrics) -> None:
        """Save if it is the best; write down that this evaluation is done.

        In the work dir, and for the checkpoints to come.
        """
        super().after_val_epoch(runner, metrics)
        if not has_train_loop(runner):
            return
        runner.message_hub.update_info(EVALUATED, progress(runner))
        if is_main_process():
            note(runner, EVALUATED, str(progress(runner)))

    def save_now(self, runner, iterations: int) -> None:
        """Save between two iterations, because the run stops.

        Args:
            runner: runs the training.
            iterations: how many have been finished.
        """
        hub = runner.message_hub
        if hub.runtime_info.get('saved_iter') == iterations:
            return
        path = os.path.join(self.out_dir, f'iter_{iterations}.pth')
        hub.update_info('stop_ckpt', path)
        self.write(runner, path, dict(epoch=runner.epoch, iter=iterations))

    def make_way(self, runner) -> None:
        """Before the first file of a new run, move those of an earlier one."""
        if self.first and is_main_process():
            move_earlier_checkpoints(
                runner.work_dir, self.out_dir, self.filename_tmpl
            )
            evaluated = runner.message_hub.runtime_info.get(EVALUATED, -1)
            note(runner, EVALUATED, str(evaluated))
        self.first = False

    def write(self, runner, path: str, meta: dict) -> None:
        """Write a checkpoint, and its name to ``last_checkpoint``.

        Args:
            runner: runs the training.
            path: of the new file.
            meta: ``epoch`` and ``iter`` of the checkpoint.

        Raises:
            UsageError: it cannot be written; the old files stay.
        """
        self.make_way(runner)
        before, self.last_ckpt = self.last_ckpt, path
        runner.message_hub.update_info('last_ckpt', path)
        runner.message_hub.update_info('saved_iter', meta['iter'])
        runner.call_hook('before_write')
        with report_write_errors(before):
            runner.save_checkpoint(
                *os.path.split(path),
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                note(runner, LAST, path)

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        """Save, then remove what is too old."""
        hub = runner.message_hub
        old = [hub.runtime_info.get('stop_ckpt')]
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # the one to be removed stays in the list that is saved, so that
            # a run that is killed in between removes it when it goes on
            kept = [*self.keep_ckpt_ids, step]
            hub.update_info('keep_ckpt_ids', kept)
            old += map(self.path_of, kept[: -self.max_keep_ckpts])
            self.keep_ckpt_ids.append(step)
        self.write(runner, self.path_of(step), meta)
        if self.max_keep_ckpts > 0:
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        hub.runtime_info.pop('stop_ckpt', None)
        self.remove(path for path in old if path != self.last_ckpt)

    def _save_best_checkpoint(self, runner, metrics) -> None:
        """Save if it is the best, then remove the one that was."""
        if not self.save_best:
            return
        self.make_way(runner)
        single = len(self.key_indicators) == 1
        paths = vars(self) if single else self.best_ckpt_path_dict
        names = ['best_ckpt_path'] if single else self.key_indicators
        before = {name: paths[name] for name in names}
        paths.update(dict.fromkeys(names))  # hidden from mmengine's removal
        with report_write_errors(self.last_ckpt):
            super()._save_best_checkpoint(runner, metrics)
        for name, old in before.items():
            if paths[name] is None:
                paths[name] = old
            elif paths[name] != old:
                self.remove([old])

    def path_of(self, step: int) -> str:
        """The file of an epoch or iteration."""
        return self.file_backend.join_path(
            self.out_dir, self.filename_tmpl.format(step)
        )

    def remove(self, paths: Iterable[str | None]) -> None:
        """Remove checkpoints of this run, where they are there."""
        if not is_main_process():
            return
        for path in filter(None, paths):
            if os.path.dirname(path) != str(self.out_dir):
                continue
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)


@contextmanager
def report_write_errors(before: str | None) -> Iterator[None]:
    """Context: an error of writing names the last complete checkpoint.

    Args:
        before: the last complete checkpoint, if any.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f'{system_error(error) or error}; the last whole checkpoint is '
            f'{before or "none: it was the first"}; then go on with --resume'
        ) from error


def note(runner, name: str, text: str) -> None:
    """Write a small file of the work dir."""
    AtomicBackend().put_text(text, os.path.join(runner.work_dir, name))


def learns_from_scores(runner) -> bool:
    """Whether a score decides how a run goes on."""
    return bool(early_stopping(runner)) or any(
        map(needs_scores, flat(runner.param_schedulers))
    )


def progress(runner) -> int:
    """Epochs that are finished; iterations, in a run without epochs."""
    return runner.epoch if by_epoch(runner) else runner.iter
