"""Tables of README.md and docs/results.md, metafile.yml, model-index.yml."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from mmengine.config import Config
from render.tables import by_name, by_source, zoo

from pvt_mm.config.loading import load_config
from pvt_mm.config.paths import HOME
from pvt_mm.errors import UsageError
from pvt_mm.families import FAMILIES
from pvt_mm.reproduction.results import Row, family_results

TASKS = {
    'box_AP': ('Object Detection', 'COCO', 'box AP'),
    'mask_AP': ('Instance Segmentation', 'COCO', 'mask AP'),
    'mIoU': ('Semantic Segmentation', 'ADE20K', 'mIoU'),
    'top1': ('Image Classification', 'ImageNet-1k', 'Top 1 Accuracy'),
    'top5': ('Image Classification', 'ImageNet-1k', 'Top 5 Accuracy'),
}


def insert(text: str, name: str, content: str) -> str:
    """Put content between <!-- NAME --> and <!-- /NAME -->.

    Raises:
        UsageError: the text has no such pair of marks.
    """
    pattern = f'(<!-- {name} -->\n).*?(<!-- /{name} -->)'
    fill = rf'\1\n{content}\n\n\2'
    text, count = re.subn(pattern, fill, text, count=1, flags=re.DOTALL)
    if not count:
        raise UsageError(f'no marks <!-- {name} --> and <!-- /{name} -->')
    return text


def metafile(family: str, rows: Sequence[Row]) -> str:
    """The metafile.yml of a family, in OpenMMLab's format."""
    about = FAMILIES[family]
    collection = {
        'Name': about.title,
        'Paper': {
            'URL': f'https://arxiv.org/abs/{about.arxiv}',
            'Title': about.paper,
        },
        'README': 'README.md',
    }
    models = [
        model(family, name, group) for name, group in by_name(rows).items()
    ]
    content = {'Collections': [collection], 'Models': models}
    return yaml.safe_dump(content, sort_keys=False)


def model(family: str, name: str, rows: Sequence[Row]) -> dict:
    """One config: how it is trained and the best-trusted numbers for it."""
    cfg = load_config(name)
    row = next((row for row in rows if row.metrics), rows[0])
    results = [
        {
            'Task': TASKS[key][0],
            'Dataset': TASKS[key][1],
            'Metrics': {TASKS[key][2]: float(value)},
        }
        for key, value in row.metrics.items()
        if key in TASKS
    ]
    weights = [row.weights for row in rows if row.weights]
    return {
        'Name': name,
        'In Collection': FAMILIES[family].title,
        'Config': f'configs/{name}.py',
        'Metadata': training(cfg),
        'Results': results,
        **({'Weights': weights[0]} if weights else {}),
    }


def training(cfg: Config) -> dict:
    """What the config says about training."""
    loop = cfg.train_cfg
    steps = (
        {'Epochs': loop.max_epochs}
        if 'max_epochs' in loop
        else {'Iterations': loop.max_iters}
    )
    return {
        'Training Techniques': [cfg.optim_wrapper.optimizer.type],
        'Batch Size': cfg.auto_scale_lr.base_batch_size,
        **steps,
    }


def render(root: Path = HOME) -> dict[Path, str]:
    """Every generated file with its content."""
    readme, page = root / 'README.md', root / 'docs/results.md'
    text = page.read_text()
    files, metafiles, families = {}, [], []
    for family in FAMILIES:
        rows = family_results(family)
        text = insert(text, f'results:{family}', by_source(rows))
        path = f'results/{family}/metafile.yml'
        files[root / path] = metafile(family, rows)
        metafiles.append(path)
        families.append(rows)
    files[page] = text
    files[readme] = insert(readme.read_text(), 'zoo', zoo(families))
    index = yaml.safe_dump({'Import': metafiles})
    return {**files, root / 'model-index.yml': index}


def main() -> None:
    """Write every generated file that is not as it should be."""
    for path, content in render(HOME).items():
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(path.relative_to(HOME))
