"""Find what is wrong with the numbers of a split."""

from collections.abc import Iterator, Mapping

from .contents import Contents, suffix_of
from .report import FEW, Finding, counted, error, warning

MOST = 0.5  # this share is most of something


def check_contents(contents: Contents) -> Iterator[Finding]:
    """Findings on the numbers of a split."""
    split, unit = contents.split, contents.unit
    total = contents.counts.total()
    use = 'learn from' if split == 'train' else 'score'
    ignored = f'{contents.share(contents.ignored):.1%} of the {unit}'
    if not total and contents.read:
        why = (
            f'{ignored} are ignored, and none is of a class{contents.after}'
            if contents.ignored
            else f'no {unit.rstrip("s")} is of a class; compare '
            'metainfo.classes with the annotations'
        )
        yield error(
            'nothing left', f'{split}: {why}: nothing is left to {use}'
        )
        return
    number = len(contents.classes)
    if beyond := [i for i in contents.counts if not 0 <= i < number]:
        yield error(
            'labels',
            f'{split}: the label {beyond[0]} occurs, but there are {number} '
            f'classes (0 to {number - 1})',
        )
    if contents.flat:
        yield Finding(
            'boxes without area',
            split == 'train',
            f'{split}: {len(contents.flat):,} of {total:,} boxes have no area '
            f'in their image (x1, y1, x2, y2): {contents.flat[0]}',
        )
    if unit == 'objects' and contents.share(contents.ignored) > MOST:
        yield warning(
            'ignored objects',
            f'{split}: {ignored} are ignored (crowd, difficult), and no model '
            'learns from them',
        )
    absent = [
        f'{label} ({name})'
        for label, name in enumerate(contents.classes)
        if not contents.counts[label]
    ]
    if absent and contents.read == contents.images:
        more = f' and {len(absent) - FEW} more' if absent[FEW:] else ''
        also = f'; {ignored} are ignored' if unit == 'pixels' else ''
        yield warning(
            'classes that do not occur',
            f'{split}: no {unit.rstrip("s")} has the label '
            f'{", ".join(absent[:FEW])}{more}{contents.after}{also}',
        )
    for folder, names in contents.unread.items():
        others = [n for n in names if suffix_of(n) not in contents.suffixes]
        key = ' (img_suffix)' if unit == 'pixels' else ''
        if contents.suffixes and others:
            yield warning(
                'images that are not read',
                f'{split}: {counted(len(others), "image")} of {folder} not '
                f'read, for example {others[0]}: this data set reads '
                f'{", ".join(sorted(contents.suffixes))}{key}',
            )


def check_shared_images(splits: Mapping[str, Contents]) -> Iterator[Finding]:
    """Findings on images that the training and the validation have."""
    train, val = splits.get('train'), splits.get('val')
    shared = train.paths & val.paths if train and val else set()
    if shared:
        yield warning(
            'images of train and val',
            f'train and val share {counted(len(shared), "image")}, for '
            f'example {min(shared)}: their score says nothing of other images',
        )
