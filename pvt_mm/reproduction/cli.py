"""``pvt_mm reproduce``: check published numbers with published weights."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ..checkpoints.atomic import check_writable, write_whole
from ..config.arguments import command_parser
from ..config.cfg_options import merge_options
from ..config.data_files import check_paths
from ..config.loading import load_config
from ..errors import UsageError, show, system_error
from . import report
from .evaluate import evaluate, find_weights
from .plan import Job, compare, plan, verdict
from .results import all_results, read_results
from .training_log import read_scores

OUT = Path('work_dirs/reproduce')
# Part of a config's data root -> name of the data set.
DATA = {
    'coco': 'coco',
    'ade': 'ade20k',
    'ade20k': 'ade20k',
    'imagenet': 'imagenet',
}
NAMES = 'ade20k, coco, imagenet'


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = command_parser(
        'Evaluate published weights and compare with the '
        'published numbers. A run that was stopped continues; what could '
        'not be checked is tried again.'
    )
    p.add_argument('names', nargs='*', help='configs; all if none is given')
    p.add_argument(
        '--dry-run',
        action='store_true',
        help='only say what would run and what is missing',
    )
    p.add_argument(
        '--again', action='store_true', help='repeat what has a verdict'
    )
    p.add_argument(
        '--out',
        type=Path,
        default=OUT,
        help=f'folder of results (default: {OUT})',
    )
    p.add_argument(
        '--data-root',
        action='append',
        default=[],
        metavar='DATA=FOLDER',
        help=f'where a data set is; DATA is one of {NAMES}',
    )
    p.add_argument(
        '--results',
        type=Path,
        help='csv of published numbers instead of results/*/results.csv',
    )
    p.add_argument(
        '--log',
        type=Path,
        help='check a training log of one config instead of weights',
    )
    p.add_argument(
        '--expected',
        type=Path,
        help='published log to compare --log with, step by step; without it '
        'the last score is compared with the published number',
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Check what the command line names.

    Raises:
        UsageError: something on the command line cannot be used.
    """
    args = parser().parse_args(argv)
    rows = read_results(args.results) if args.results else all_results()
    jobs = plan(rows, args.names)
    if args.log or args.expected:
        check_log(args, jobs)
        return
    roots = data_roots(args.data_root)
    if args.dry_run:
        for job in jobs:
            print(f'{job.key}: {dry_run(job, roots)}')
        return
    check_writable(args.out, folder=True)
    print(f'{len(jobs)} numbers to check; results go to {args.out}')
    check_all(jobs, args.out, roots, args.again)


def data_roots(pairs: Sequence[str]) -> dict[str, str]:
    """DATA=FOLDER pairs as a dict.

    Raises:
        UsageError: a pair has another form, or DATA is not known.
    """
    roots = dict(pair.partition('=')[::2] for pair in pairs)
    for data, folder in roots.items():
        if data not in DATA.values() or not folder:
            raise UsageError(
                f'--data-root {data}={folder}: write DATA=FOLDER with DATA '
                f'one of {NAMES}'
            )
    return roots


def data_of(cfg: Config) -> str:
    """The name of the data set that a config is tested on.

    Raises:
        UsageError: its data root names none that is known here.
    """
    root = cfg.get('data_root') or ''
    for part in Path(root).parts:
        if part in DATA:
            return DATA[part]
    raise UsageError(
        f'{cfg.filename}: no folder of data_root={root!r} is one of '
        f'{", ".join(DATA)}, which tell the data set'
    )


def dry_run(job: Job, roots: dict[str, str]) -> str:
    """What would be done for a job, or what is missing."""
    reasons = []
    try:
        weights = find_weights(job, fetch=False)
    except UsageError as error:
        reasons.append(str(error))
    try:
        find_data(job, roots)
    except UsageError as error:
        reasons.append(str(error))
    if reasons:
        return f'not checkable: {"; ".join(reasons)}'
    return f'would evaluate {weights}'


def find_data(job: Job, roots: dict[str, str]) -> list[str]:
    """The KEY=VALUE options of a job that say where its data is.

    Raises:
        UsageError: the data is not there.
    """
    cfg = load_config(f'configs/{job.name}.py')
    data = data_of(cfg)
    root = {'data_root': roots[data]} if data in roots else {}
    merge_options(cfg, root)
    try:
        check_paths(cfg, ('test',))
    except UsageError as error:
        what = str(error).split('; ')[0]
        raise UsageError(
            f'{what}; name its folder: --data-root {data}=FOLDER'
        ) from error
    return [f'{key}={value}' for key, value in root.items()]


def check_all(
    jobs: Sequence[Job], out: Path, roots: dict[str, str], again: bool
) -> None:
    """Check each job; an error of one does not stop the others.

    Args:
        jobs: numbers to check.
        out: folder of the verdicts, and of a folder per job.
        roots: folder of a data set by its name.
        again: repeat what has a verdict.
    """
    outcomes = report.read(out)
    for number, job in enumerate(jobs, 1):
        old = outcomes.get(job.key)
        if old and not again and not is_open(old):
            print(f'[{number}/{len(jobs)}] {job.key}: {old.verdict} (earlier)')
            continue
        outcomes[job.key] = check(job, out, roots)
        report.write(out, outcomes)
        print(f'[{number}/{len(jobs)}] {job.key}: {outcomes[job.key].verdict}')
        sys.stdout.flush()
    print(f'verdicts: {out}/verdicts.md')


def is_open(old: report.Outcome) -> bool:
    """Whether the number could not be checked."""
    return old.verdict.startswith('not checkable')


def check(job: Job, out: Path, roots: dict[str, str]) -> report.Outcome:
    """The outcome of one job.

    A bug is an outcome too, for the sake of the other jobs: its traceback
    is in the file that the outcome names.
    """
    try:
        seen = evaluate(job, out / job.key, find_data(job, roots))
    except UsageError as error:
        return report.outcome(job, f'not checkable: {error}')
    except Exception as error:
        if system_error(error):  # of every job
            raise
        file = out / job.key / 'traceback.txt'
        write_whole(file, traceback.format_exc().encode())
        why = f'{type(error).__name__}: {error} (traceback: {file})'
        return report.outcome(job, f'not checkable: {why}')
    return report.outcome(job, verdict(job.expected, seen), seen)


def check_log(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Compare a training log with a published log, or its last score.

    Raises:
        UsageError: a log cannot be used, or not one config is named.
    """
    if not args.log or len(args.names) != 1:
        raise UsageError(
            '--log FILE needs the name of one config before it, and '
            '--expected FILE needs --log'
        )
    seen = read_scores(args.log)
    if args.expected:
        lines, good = compare(read_scores(args.expected), seen)
        show(*lines)
        last = 'reproduced' if good else 'off at the last common step'
    else:
        final = seen[max(seen)]
        last = verdict(jobs[0].expected, final)
        print(
            f'{args.names[0]}: published {report.numbers(jobs[0].expected)}, '
            f'last in the log {report.numbers(final)}'
        )
    print(f'verdict: {last}')
