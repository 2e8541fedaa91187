# Parameters, gradients and moments divided among processes by FSDP, for a
# config: _base_ = ['NAME.py', '_base_/strategy_fsdp.py'].
strategy = dict(
    type='FSDPStrategy',
    # each parameter keeps its name, by which a recipe spares norms decay
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy='each_block',
        use_orig_params=True,
    ),
    # one file of the whole model, as without FSDP: any tool reads it
    state_dict_cfg='full',
)
