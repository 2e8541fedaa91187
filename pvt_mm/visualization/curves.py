"""Draw loss, learning rate and scores beside the published scores."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ..reproduction.plan import judged
from ..reproduction.results import KINDS, all_results
from ..reproduction.training_log import TrainingLog
from .figures import COLOURS, label, plot, pyplot, save


def trusted_scores(config: str) -> dict[str, tuple[float, str]]:
    """The most trusted results of a config: score -> (percent, kind)."""
    rows = [row for row in all_results() if row.name == config]
    rows.sort(key=lambda row: KINDS.index(row.kind), reverse=True)
    return {
        name: (value, row.kind)
        for row in rows
        for name, value in judged(row).items()
    }


def draw_runs(
    file: str | Path,
    runs: Sequence[TrainingLog],
    logs: Sequence[TrainingLog] = (),
) -> None:
    """Loss, learning rate and scores of several runs in one picture.

    Args:
        file: picture to write.
        runs: each has a colour.
        logs: published ones, dashed and grey.

    Raises:
        OSError: the picture cannot be written.
    """
    every = [(run, False) for run in runs] + [(log, True) for log in logs]
    names = sorted({name for run, _ in every for name in run.curves()})
    rows = 1 + (len(names) + 1) // 2
    figure, grid = pyplot.subplots(
        rows, 2, figsize=(11, 3.6 * rows), layout='constrained'
    )
    panels = list(grid.flat)
    styles = [style(place, log) for place, (_, log) in enumerate(every)]
    for (run, _), look in zip(every, styles, strict=True):
        plot(panels[0], run.losses, run.name, **look)
        plot(panels[1], run.rates, run.name, **look)
        for axes, name in zip(panels[2:], names, strict=False):
            curve = run.curves().get(name, [])
            last = f'{run.name}: {curve[-1][1]:.1f}' if curve else ''
            plot(axes, curve, last, marker='o', ms=3, **look)
    label(panels[0], xlabel='iteration', ylabel='training loss')
    label(panels[1], xlabel='iteration', ylabel='learning rate')
    kinds = {run.by_epoch for run, _ in every if run.scores}
    units = ' or '.join('epoch' if k else 'iteration' for k in sorted(kinds))
    for axes, name in zip(panels[2:], names, strict=False):
        expect(axes, runs, name)
        label(axes, xlabel=units, ylabel=f'{name}, %')
    for axes in panels[2 + len(names) :]:
        axes.remove()
    save(figure, file)


def style(place: int, log: bool) -> dict:
    """How the curves of a run look."""
    if log:
        return {'color': 'grey', 'linestyle': '--', 'linewidth': 1.2}
    return {'color': COLOURS[place % len(COLOURS)], 'linewidth': 1.2}


def expect(axes: Axes, runs: Sequence[TrainingLog], name: str) -> None:
    """A dotted line where the published score of a run's config lies."""
    lines: dict[tuple, int] = {}
    for place, run in enumerate(runs):
        found = trusted_scores(run.config).get(name)
        if found:
            lines.setdefault((run.config, *found), place)
    for (config, value, kind), place in lines.items():
        axes.axhline(
            value,
            color=COLOURS[place % len(COLOURS)],
            linestyle=':',
            label=f'{config}: {value:.1f} ({kind})',
        )


def summary(run: TrainingLog) -> list[str]:
    """The last and best scores of a run beside the published ones."""
    lines = []
    expected = trusted_scores(run.config)
    for name, curve in run.curves().items():
        best, place = max((y, x) for x, y in curve)
        text = f'{run.name}: {name} {curve[-1][1]:.1f}'
        text += f', best {best:.1f} at {place}'
        if name in expected:
            value, kind = expected[name]
            text += f'; {kind} {value:.1f}, {curve[-1][1] - value:+.1f}'
        lines.append(text)
    if run.losses:
        (first, start), (last, end) = run.losses[0], run.losses[-1]
        lines.append(
            f'{run.name}: loss {start:.3f} at iteration {first}, {end:.3f} '
            f'at {last}'
        )
    return lines
