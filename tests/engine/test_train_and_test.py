"""The engine: options, checks before a run, safe and repeatable resuming."""

import os
import pickle
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from small_runs import (
    RETINANET,
    SEGMENTOR,
    draw,
    load,
    run_config,
    small,
    write,
)

from pvt_mm import cli
from pvt_mm.checkpoints import check_fit
from pvt_mm.config.loading import load_config
from pvt_mm.config.schema import bare
from pvt_mm.engine import resume as resuming
from pvt_mm.engine import test as testing
from pvt_mm.engine import train as training
from pvt_mm.engine.config_changes import differences
from pvt_mm.engine.launch import replace_sync_bn, start_processes
from pvt_mm.engine.pre_run_checks import check_weights
from pvt_mm.engine.run_config import allow_partial_weights
from pvt_mm.errors import CheckpointError, UsageError

ROOT = Path(__file__).parents[2]
COCO = 'configs/retinanet_pvt_v2_b2_coco.py'
ADE = 'configs/semantic_fpn_pvt_v2_b2_ade20k.py'


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """A folder with a few drawn images in both layouts."""
    return draw(tmp_path_factory.mktemp('drawn'))


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Run every test in a folder of its own, to see that none is needed."""
    monkeypatch.chdir(tmp_path)


def fails(capsys, command, *argv):
    """What a command says when it refuses, in one line and status 1."""
    # mmengine warns of runs that start in the same second
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        patch.setattr(sys, 'argv', ['tool', *map(str, argv)])
        assert cli.run(command) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith('error: ')
    assert '\n' not in said
    return said


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('load_from', 'x.pth'),
        ('randomness.seed', 1),
        ('train_cfg.max_epochs', 2),
        ('param_scheduler.0.end', 2),
        ('model.backbone.with_cp', True),
        ('optim_wrapper.clip_grad.max_norm', 1.0),
        ('optim_wrapper.optimizer.betas', [0.9, 0.99]),
        ('train_dataloader.dataset.indices', 8),
        ('train_dataloader.pin_memory', True),
        ('default_hooks.checkpoint.max_keep_ckpts', 2),
        ('val_evaluator.classwise', True),
    ],
)
def test_option_that_something_reads(key, value):
    cfg = load(COCO, **{key: value})
    node = cfg._cfg_dict
    for part in key.split('.'):
        node = node[int(part) if isinstance(node, list) else part]
    assert node == value


@pytest.mark.parametrize(
    ('key', 'near'),
    [
        ('modle.backbone.arch', 'model.backbone.arch'),
        ('model.backbone.drop_path', 'model.backbone.drop_path_rate'),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('param_scheduler.7.end', 'param_scheduler.1.end'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('default_hooks.logger.intervl', 'default_hooks.logger.interval'),
        ('model.test_cfg.score_thresh', 'model.test_cfg.score_thr'),
        ('lr', 'optim_wrapper.optimizer.lr'),
        ('seed', 'randomness.seed'),
        ('train_pipeline.2.scale', 'train_dataloader.dataset.pipeline.2'),
    ],
)
def test_option_that_nothing_reads(key, near):
    with pytest.raises(UsageError, match=rf'{key}: .*{near}'):
        load(COCO, **{key: 1})


def test_option_below_none():
    cfg = load(ADE, **{'optim_wrapper.clip_grad.max_norm': 2.0})
    assert cfg.optim_wrapper.clip_grad == {'max_norm': 2.0}


def test_plus_adds_a_key():
    assert load(COCO, **{'+model.note': 'x'}).model.note == 'x'


def test_data_root_moves_every_path():
    cfg = load(COCO, data_root='/there')
    for mode in ('train', 'val', 'test'):
        assert cfg[f'{mode}_dataloader'].dataset.data_root == '/there'
    for mode in ('val', 'test'):
        ann_file = cfg[f'{mode}_evaluator'].ann_file
        assert ann_file == '/there/annotations/instances_val2017.json'


@pytest.mark.parametrize(
    ('config', 'file', 'source'),
    [
        (COCO, 'data/coco/annotations/instances_train2017.json', 'cocodata'),
        (ADE, 'data/ade/ADEChallengeData2016/images/training', 'csail.mit'),
        (RETINANET, 'data/shapes/coco/annotations/', 'pvt_mm draw-data'),
    ],
)
def test_missing_data(capsys, config, file, source):
    said = fails(capsys, training.train, config)
    assert all(part in said for part in (file, source, 'make train'))
    assert not os.path.exists('work_dirs')


def test_empty_image_folder(capsys, drawn, tmp_path):
    (tmp_path / 'empty').mkdir()
    said = fails(
        *(capsys, training.train, RETINANET, '--cfg-options'),
        f'data_root={drawn}/coco/',
        f'train_dataloader.dataset.data_prefix.img={tmp_path}/empty',
    )
    assert f'{tmp_path}/empty is an empty folder' in said


def test_broken_annotations(capsys, drawn, tmp_path):
    broken = tmp_path / 'cut.json'
    broken.write_text('{"images": [')
    said = fails(
        *(capsys, training.train, RETINANET, '--cfg-options'),
        f'data_root={drawn}/coco/',
        f'train_dataloader.dataset.ann_file={broken}',
    )
    assert f'{broken} is not JSON' in said


def test_missing_weights(capsys, drawn, tmp_path):
    said = fails(
        *(capsys, training.train, RETINANET, '--cfg-options'),
        f'data_root={drawn}/coco/',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={tmp_path}/none.pth',
    )
    assert f'{tmp_path}/none.pth' in said


@pytest.mark.parametrize(
    ('argv', 'part'),
    [
        (['configs/retinanet_pvt_v2_b22_coco.py'], COCO),
        ([RETINANET, '--cfg-options', 'model.backbone.arch=b9'], 'b9'),
        ([RETINANET, '--cfg-options', 'model.neck.type=FPM'], 'FPM'),
        (
            [RETINANET, '--cfg-options', 'model.bbox_head.num_classes=80'],
            'the data set has 5 classes, but the model has '
            'model.bbox_head.num_classes=80',
        ),
        (
            [COCO, '--cfg-options', 'model.backbone.init_cfg=None'],
            'compare metainfo.classes',
        ),
        ([RETINANET, '--launcher', 'pytorch'], 'dist_train.sh'),
        ([RETINANET, '--launcher', 'slurm'], 'SLURM_PROCID is not set'),
        ([RETINANET, '--amp'], '--amp needs a GPU'),
        ([RETINANET, '--allow-partial-weights'], 'init_cfg'),
        ([RETINANET, '--resume', 'none.pth'], 'none.pth'),
        (
            [
                *(RETINANET, '--cfg-options'),
                *('train_dataloader.drop_last=True', 'auto_scale_lr=None'),
                'train_dataloader.batch_size=9999',
            ],
            'train_dataloader.drop_last leaves no batch of 9999 among',
        ),
    ],
)
def test_train_refuses(capsys, drawn, argv, part):
    if '--cfg-options' not in argv:
        argv = [*argv, '--cfg-options']
    said = fails(capsys, training.train, *argv, f'data_root={drawn}/coco/')
    assert part in said


@pytest.mark.parametrize(
    ('command', 'argv', 'key'),
    [
        (training.train, [], 'train_dataloader'),
        (training.train, [], 'optim_wrapper'),
        (testing.test, ['x.pth'], 'test_evaluator'),
    ],
)
def test_config_without_a_key_that_a_run_needs(
    capsys, tmp_path, command, argv, key
):
    cfg = load(RETINANET)
    cfg.pop(key)
    file = write(cfg, tmp_path / 'config.py')
    said = fails(capsys, command, file, *argv)
    assert said.startswith(f'error: {file}')
    assert f' no {key}' in said


@pytest.mark.parametrize('scheme', ['torchvision', 'open-mmlab'])
def test_weights_that_mmengine_finds(scheme):
    cfg = load(COCO)
    weights = dict(type='Pretrained', checkpoint=f'{scheme}://resnet50')
    cfg.model.backbone = dict(type='ResNet', depth=50, init_cfg=weights)
    check_weights(cfg)
    weights.update(checkpoint='resnet50.pth')
    cfg.model.backbone.init_cfg = [weights]
    with pytest.raises(CheckpointError, match='resnet50.pth are not there'):
        check_weights(cfg)


def test_partial_weights_of_a_list():
    cfg = load(COCO)
    draw = dict(type='TruncNormal', layer='Linear')
    cfg.model.backbone.init_cfg = [draw, cfg.model.backbone.init_cfg]
    allow_partial_weights(cfg)
    assert cfg.model.backbone.init_cfg[0] == draw
    assert cfg.model.backbone.init_cfg[1].allow_partial is True


def test_predictions_of_a_config_without_a_scope():
    cfg = Config(dict(test_evaluator=dict(type='Accuracy')))
    testing.keep_predictions(cfg, 'x.pkl')
    assert cfg.test_evaluator[1] == dict(
        type='DumpResults', out_file_path='x.pkl'
    )


def test_sync_bn_becomes_bn():
    model = load(ADE).model
    assert replace_sync_bn(model) == 1
    assert model.decode_head.norm_cfg.type == 'BN'


def test_one_process_needs_no_wrapper():
    cfg = load(COCO)
    start_processes(cfg, 'none', [])
    assert 'model_wrapper_cfg' not in cfg
    assert not torch.distributed.is_initialized()


def test_mixed_precision_of_a_recipe_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config = 'configs/retinanet_pvt_large_coco.py'
    assert load_config(config).optim_wrapper.type == 'AmpOptimWrapper'
    args = [config, '--cfg-options', 'optim_wrapper.loss_scale=512.0']
    wrapper = run_config(args).optim_wrapper
    assert wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in wrapper


def test_last_checkpoint_is_whole(tmp_path):
    torch.save({'epoch': 1}, tmp_path / 'epoch_1.pth')
    whole = (tmp_path / 'epoch_1.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(whole[: len(whole) // 2])
    os.utime(tmp_path / 'epoch_1.pth', (1, 1))
    found, said = str(tmp_path / 'epoch_1.pth'), []
    assert resuming.last_checkpoint(tmp_path, said) == found
    (damaged,) = said
    assert damaged.startswith(f'--resume: {tmp_path}/epoch_2.pth is damaged')
    assert resuming.last_checkpoint(tmp_path / 'nowhere', []) is None
    # out_dir of the checkpoint hook is another folder
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'last_checkpoint').write_text(f'{tmp_path}/epoch_2.pth')
    assert resuming.last_checkpoint(work, []) == found


class Evil:
    def __reduce__(self):
        return os.mkdir, ('evil',)


def test_pickle_with_code_is_refused(tmp_path):
    torch.save({'state_dict': Evil()}, tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='refused'):
        check_fit(torch.nn.Linear(1, 1), str(tmp_path / 'evil.pth'))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'evil.pth')
    assert not os.path.exists('evil')


def test_weights_of_another_model_are_refused(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    path = str(tmp_path / 'x.pth')
    torch.save({'state_dict': model.state_dict()}, path)
    check_fit(model, path)
    with pytest.raises(UsageError, match='0 are missing and 1 have another'):
        check_fit(torch.nn.Sequential(torch.nn.Linear(4, 3)), path)
    wider = torch.nn.Sequential(*model, torch.nn.Linear(3, 3))
    with pytest.raises(UsageError, match=r'2 are missing \(1.weight, ...\)'):
        check_fit(wider, path)
    check_fit(wider, path, allow_partial=True)
    check_fit(wider, path, part='0.')


@HOOKS.register_module()
class PowerCut(Hook):
    """Ends a run in the middle of its second half."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, **_):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def finish(cfg, work_dir, *argv, cut=None):
    """Train to the end or to a cut; the weights and the last score."""
    path = write(cfg, work_dir.parent / 'config.py')
    args = [path, '--work-dir', str(work_dir), *argv]
    cfg = run_config(args)
    if cut:
        cfg.custom_hooks.append(dict(type='PowerCut', at=cut))
    cfg.experiment_name = f'{work_dir}{argv}{cut}'.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except KeyboardInterrupt:
        return None
    weights = runner.model.state_dict()
    return {k: v.clone() for k, v in weights.items()}, runner.val_loop.run()


@pytest.mark.parametrize(
    ('config', 'part', 'options', 'cut'),
    [
        (RETINANET, 'coco', {'train_cfg.max_epochs': 2}, 5),
        (
            *(SEGMENTOR, 'ade20k'),
            {
                'train_cfg.max_iters': 4,
                'train_cfg.val_interval': 2,
                'default_hooks.checkpoint.interval': 2,
            },
            3,
        ),
    ],
)
def test_resumed_run_equals_undisturbed(
    tmp_path, drawn, config, part, options, cut
):
    cfg = small(load(config, **options), drawn, part)
    weights, scores = finish(cfg, tmp_path / 'whole')
    assert finish(cfg, tmp_path / 'cut', cut=cut) is None
    again, same = finish(cfg, tmp_path / 'cut', '--resume')
    assert scores == same
    assert all(torch.equal(weights[k], again[k]) for k in weights)


def test_weights_alone_are_not_resumed(capsys, tmp_path, drawn):
    cfg = small(load(RETINANET), drawn, 'coco')
    file = write(cfg, tmp_path / 'config.py')
    torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'w.pth')
    argv = (file, '--resume', tmp_path / 'w.pth', '--work-dir', tmp_path / 'w')
    said = fails(capsys, training.train, *argv)
    assert 'weights only, and no state of a run: start from them with' in said


def files_in(folder):
    """The content of each file."""
    return {p: p.read_bytes() for p in folder.glob('*') if p.is_file()}


def changes_in(log):
    """The changes of the config in the text of a log file."""
    text = log.split('Changes of the config:\n')[1]
    return [line for line in text.split('\n') if line.startswith('  ')]


def test_every_change_of_the_config_is_logged_with_its_step(
    tmp_path, drawn, monkeypatch
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = small(load(RETINANET, **{'train_cfg.max_epochs': 2}), drawn, 'coco')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    file = write(cfg, tmp_path / 'config.py')
    argv = [file, '--work-dir', str(tmp_path / 'run')]
    argv += ['--cfg-options', 'train_cfg.max_epochs=1', 'auto_scale_lr=None']
    training.train(argv)
    (log,) = (tmp_path / 'run').rglob('*.log')
    text = log.read_text()
    remark = 'No GPU: mixed precision is fp32 in this run.'
    assert text.count(remark) == 1
    changes = changes_in(text)
    for line in (
        'train_cfg.max_epochs: 2 -> 1 (--cfg-options)',
        f"work_dir: added '{tmp_path}/run' (work dir)",
        "optim_wrapper.type: 'AmpOptimWrapper' -> 'OptimWrapper' "
        '(precision of this machine)',
        "default_hooks.checkpoint.type: 'CheckpointHook' -> "
        "'AtomicCheckpointHook' (run hooks)",
    ):
        assert f'  {line}' in changes
    # the config of the work dir is the file's with these changes, no others
    (ran,) = (tmp_path / 'run').glob('*.py')
    there = bare(Config.fromfile(ran).to_dict())
    before = bare(load(file).to_dict())
    keys = {key for key, *_ in differences(before, there)}
    assert {f'  {key}:' for key in keys} <= {
        line.split(':')[0] + ':' for line in changes
    }
    last = tmp_path / 'run/epoch_1.pth'
    left, logs = files_in(tmp_path / 'run'), {log}
    testing.test([file, str(last), '--work-dir', str(tmp_path / 'run')])
    assert files_in(tmp_path / 'run') == left
    (log,) = {*(tmp_path / 'run').rglob('*.log')} - logs
    assert (log.parent / 'config.py').is_file()
    assert changes_in(log.read_text()) == [
        f"  work_dir: added '{tmp_path}/run' (work dir)",
        f"  load_from: None -> '{last}' (CHECKPOINT)",
        "  launcher: added 'none' (processes)",
    ]


def test_the_log_on_the_page_is_what_a_run_writes(capsys, monkeypatch):
    def begin(cfg):
        raise KeyboardInterrupt

    for check in ('check_paths', 'check_weights', 'check_annotations'):
        monkeypatch.setattr(training, check, lambda *_: None)
    monkeypatch.setattr(training.FaultTolerantRunner, 'from_cfg', begin)
    with pytest.raises(KeyboardInterrupt):
        training.train(
            [COCO, '--cfg-options', 'train_dataloader.num_workers=4']
        )
    said = re.sub('.* - INFO - ', '', capsys.readouterr().out)
    said, lines = re.subn('Layers on the CPU: .*[.]\n', '', said)
    assert lines == 1  # the page is of a GPU
    page = (ROOT / 'docs/training.md').read_text()
    assert page.split('```text\n')[1].split('```')[0] == said


class Careless:
    """A class of the user with a bug."""

    def __init__(self, **kwargs):
        raise IndexError('a bug of the user')


@pytest.mark.parametrize('name', ['Careless', 'RetinaNet'])
def test_a_bug_in_a_class_of_the_user_keeps_its_traceback(
    tmp_path, drawn, name
):
    HOOKS.register_module(name=name, module=Careless, force=True)
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.custom_hooks = [dict(type=name)]
    file = write(cfg, tmp_path / 'config.py')
    argv = [file, '--work-dir', str(tmp_path / 'run')]
    with pytest.raises(IndexError, match='a bug of the user'):
        cli.run(lambda: training.train(argv))
    (log,) = (tmp_path / 'run').rglob('*.log')
    assert "raise IndexError('a bug of the user')" in log.read_text()


@pytest.mark.parametrize('step', ['fit_batch', 'check_dataset'])
def test_a_bug_of_ours_keeps_its_traceback(tmp_path, drawn, monkeypatch, step):
    def bug(*_):
        raise AttributeError('a bug of ours')

    monkeypatch.setattr(training, step, bug)
    file = write(small(load(RETINANET), drawn, 'coco'), tmp_path / 'config.py')
    argv = [file, '--work-dir', str(tmp_path / 'run')]
    with pytest.raises(AttributeError, match='a bug of ours'):
        cli.run(lambda: training.train(argv))
    logs = [log.read_text() for log in (tmp_path / 'run').rglob('*.log')]
    assert len(logs) == (step == 'check_dataset')  # the Runner makes it
    assert all("raise AttributeError('a bug of ours')" in log for log in logs)


def test_the_traceback_of_a_sentence_is_in_the_log_and_with_debug_shown(
    tmp_path, drawn, capsys, monkeypatch
):
    cfg = small(load(RETINANET), drawn, 'coco')
    cfg.model.neck.num_outs = 1  # an assertion of mmdet's
    file = write(cfg, tmp_path / 'config.py')
    argv = [file, '--work-dir', str(tmp_path / 'run')]
    assert cli.run(lambda: training.train(argv)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f'error: {file} cannot be built: model.neck')
    (log,) = (tmp_path / 'run').rglob('*.log')
    assert 'mmdet/models/necks/fpn.py' in log.read_text()
    change = f"  work_dir: added '{tmp_path}/run' (work dir)"
    assert change in changes_in(log.read_text())
    monkeypatch.setattr(sys, 'argv', ['pvt_mm train', *argv, '--debug'])
    assert cli.run(lambda: training.train([*argv, '--debug'])) == 1
    assert 'mmdet/models/necks/fpn.py' in capsys.readouterr().err
