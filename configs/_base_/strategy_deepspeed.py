# Moments and gradients divided among processes by DeepSpeed's ZeRO. Beside a
# leaf: _base_ = ['LEAF.py', '_base_/strategy_deepspeed.py'].
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(stage=2, overlap_comm=True),
)
