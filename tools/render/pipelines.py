"""Describe what a pipeline of transforms does to an image."""

from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]


def images(pipeline: Sequence[Step]) -> str:
    """The steps of a pipeline that change an image, in their order."""
    words = [word(step) for step in pipeline]
    return ', '.join(filter(None, words)) or 'as they are'


def word(step: Step) -> str:
    """One step as text; '' if it does not change the image."""
    return WORDS.get(step['type'], lambda _: '')(step)


def scale(values: Sequence[int]) -> str:
    """(1333, 800) -> 'short side 800, long side up to 1333'"""
    return f'short side {min(values)}, long side up to {max(values)}'


def resize(step: Step) -> str:
    """Resize."""
    return scale(step['scale'])


def random_resize(step: Step) -> str:
    """RandomResize: the scale and its range."""
    low, high = step['ratio_range']
    return f'{scale(step["scale"])}, times {low:g} to {high:g}'


def choice(step: Step) -> str:
    """RandomChoiceResize: the short sides."""
    shorts = [min(values) for values in step['scales']]
    steps = {b - a for a, b in zip(shorts, shorts[1:], strict=False)}
    text = '/'.join(map(str, shorts))
    if len(shorts) > 3 and len(steps) == 1:
        text = f'{shorts[0]} to {shorts[-1]} by {steps.pop()}'
    return f'short side {text}, long side up to {max(step["scales"][0])}'


def crop(step: Step) -> str:
    """RandomCrop: its size, and the largest share of a class."""
    text = f'crop {step["crop_size"][0]}x{step["crop_size"][1]}'
    if step.get('crop_type') == 'absolute_range':
        text = 'crop sides {} to {}'.format(*step['crop_size'])
    share = step.get('cat_max_ratio', 1)
    return text + (f' (a class {share:g} at most)' if share < 1 else '')


def either(step: Step) -> str:
    """RandomChoice: each way in brackets."""
    return ' or '.join(f'({images(way)})' for way in step['transforms'])


WORDS = {
    'Resize': resize,
    'RandomResize': random_resize,
    'RandomChoiceResize': choice,
    'RandomChoice': either,
    'RandomCrop': crop,
    'RandomFlip': lambda step: f'flip {step["prob"]:g}',
    'PhotoMetricDistortion': lambda _: 'colours',
    'ResizeToMultiple': lambda s: f'up to multiples of {s["size_divisor"]}',
}
