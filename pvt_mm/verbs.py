"""What ``python -m pvt_mm VERB`` and tools/*.py do: one table for both."""

import sys
from difflib import get_close_matches
from importlib import import_module

# Verb -> its function, module:name below pvt_mm, and what it does.
VERBS = {
    'train': ('engine.cli:train', 'train a model by its config'),
    'test': ('engine.cli:test', 'evaluate a trained model'),
    'infer': ('inference.cli:main', 'run a model on images or a video'),
    'demo': ('web.cli:main', 'show models in the browser'),
    'analyze-log': ('seeing.logs_cli:main', 'draw the curves of trainings'),
    'analyze-results': (
        'seeing.confusion_cli:main',
        'scores per class and the confusion matrix',
    ),
    'reproduce': ('reproduce.cli:main', 'check published numbers'),
    'visualize-features': (
        'seeing.features_cli:main',
        'show the maps and the attention of a backbone',
    ),
    'benchmark': ('benchmark.cli:main', 'measure speed and memory'),
    'flops': ('analysis.cli:main', 'count parameters and multiply-adds'),
    'convert': ('checkpoints.convert:main', 'translate a file of weights'),
    'export': ('export.cli:main', 'write a model as ONNX or .pt2'),
    'check-dataset': ('data_check.cli:main', 'say what is wrong with data'),
    'browse-dataset': (
        'seeing.browse_cli:main',
        'show what the network gets of a data set',
    ),
    'draw-data': ('datasets.cli:main', 'draw data to try a training with'),
    'doctor': ('doctor.__main__:main', 'say what is wrong with the libraries'),
}


def start(verb: str) -> int:
    """Run a verb on the command line that is left -> exit status."""
    module, name = VERBS[verb][0].split(':')

    def function() -> int | None:
        return getattr(import_module(f'pvt_mm.{module}'), name)()

    if verb == 'doctor':  # it runs where mmengine cannot be imported
        return function()
    from .engine.ending import run

    return run(function)


def main() -> int:
    """``python -m pvt_mm VERB ...`` -> exit status."""
    verb = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if verb in ('-h', '--help'):
        print(usage())
        return 0
    if verb not in VERBS:
        near = ', '.join(get_close_matches(verb, VERBS, cutoff=0))
        print(f'error: no verb {verb}; nearest: {near}', file=sys.stderr)
        return 2
    sys.argv[:2] = [f'pvt_mm {verb}']
    return start(verb)


def usage() -> str:
    """The verbs, a line each."""
    width = max(map(len, VERBS))
    lines = [f'  {verb:{width}}  {what}' for verb, (_, what) in VERBS.items()]
    head = 'usage: python -m pvt_mm VERB ...; VERB --help lists its options\n'
    return '\n'.join([head, *lines])
