"""Known conflicts of libraries: pattern of the error, cause and fix."""

SOURCES = (
    'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir '
    '--no-binary mmcv mmcv==2.1.0'
)
# pip cannot build mmcv 2.1.0 on Python 3.13: its setup.py ends with KeyError.
SOURCES_3_13 = (
    'python tools/build_mmcv.py dist && pip install dist/mmcv-2.1.0-*.whl '
    '(in a checkout of pvt_mm)'
)
BUILD = (
    "pip uninstall -y mmcv mmcv-lite; pip install 'setuptools<81' wheel ninja "
    f'&& {SOURCES}'
)
CUDA_BUILD = BUILD.replace('MMCV_WITH', 'FORCE_CUDA=1 MMCV_WITH')
# The same in an environment of the onedl fork.
ONEDL = {
    'pip uninstall -y mmcv mmcv-lite': 'pip uninstall -y onedl-mmcv',
    '--no-binary mmcv mmcv==2.1.0': '--no-binary onedl-mmcv onedl-mmcv==2.3.6',
    'python tools/build_mmcv.py': 'PVT_MM_STACK=onedl python '
    'tools/build_mmcv.py',
    'dist/mmcv-2.1.0': 'dist/onedl_mmcv-2.3.6',
    'mmengine==0.10.7': 'onedl-mmengine==0.10.12',
    'mmdet==3.3.0': 'onedl-mmdetection==3.5.1',
    'mmsegmentation==1.2.2': 'onedl-mmsegmentation==1.4.2',
}
# Pattern in the output of a failed check, cause, command that fixes it.
CONFLICTS = (
    (
        r"No module named 'mmcv\._ext'",
        'mmcv was installed without its compiled operators',
        BUILD,
    ),
    (
        r'_ext\S*: undefined symbol|_ext\S*: .*cannot open|_ext.*DLL load',
        "mmcv's operators were compiled for another torch",
        BUILD,
    ),
    (
        r'operators died of SIG',
        "mmcv's operators crash: they were compiled for another torch",
        BUILD,
    ),
    (
        r'implementation for device cuda|not compiled with (GPU|CUDA)',
        "torch is for CUDA, mmcv's operators for the CPU only",
        CUDA_BUILD,
    ),
    (
        'no kernel image',
        "mmcv's operators have no code for the architecture of this GPU",
        CUDA_BUILD,
    ),
    (
        r'MMCV==(\S+) is used but incompatible',
        r'mmdet 3.3 and mmseg 1.2 refuse mmcv \1; 2.1.0 suits them',
        BUILD,
    ),
    (
        r'MMEngine==(\S+) is used but incompatible',
        r'mmdet and mmseg refuse mmengine \1',
        'pip install mmengine==0.10.7',
    ),
    (
        r"No module named 'pkg_resources'",
        'setuptools 82 dropped pkg_resources, which mmengine imports for '
        "configs that inherit 'mmdet::...'",
        "pip install 'setuptools<81'",
    ),
    (
        r'Weights only load failed|WeightsUnpickler',
        'torch 2.6 and later refuse what mmengine writes into checkpoints, '
        'and importing this pvt_mm does not allow it',
        'pip install --upgrade --force-reinstall --no-deps pvt_mm',
    ),
    (
        r'_ARRAY_API not found|compiled using NumPy 1|Numpy is not available|'
        r'numpy\.dtype size changed|multiarray failed to import',
        'a compiled package was built for another numpy',
        "pip install 'numpy<2'",
    ),
    (
        r'(lib(?:GL|gthread|glib|xcb)\S*?): cannot open shared object',
        r'OpenCV needs \1, which this machine has not',
        'pip install --force-reinstall --no-deps opencv-python-headless',
    ),
    (
        r"'?(\w+)'? is already registered in optimizer",
        r'mmengine before 0.10.7 registers \1 a second time',
        'pip install mmengine==0.10.7',
    ),
    (
        r"module 'pkgutil' has no attribute 'ImpImporter'",
        'setuptools is too old for this Python',
        "pip install --upgrade 'setuptools<81'",
    ),
    (
        r"No module named '(cv2)",
        'OpenCV is not installed',
        'pip install opencv-python',
    ),
    (
        r'pip install .*(tensorboard|wandb)"',
        r'\1 is not installed, and the config logs to it',
        r'pip install \1',
    ),
    (
        r"No module named '(mmcv)'",
        'mmcv is not installed',
        BUILD,
    ),
    (
        r"No module named '(mmseg)'",
        'mmsegmentation is not installed',
        'pip install mmsegmentation==1.2.2 ftfy regex',
    ),
    (
        r"No module named '(mmdet)'",
        'mmdet is not installed',
        'pip install mmdet==3.3.0',
    ),
    (
        r"No module named '(torch|numpy|setuptools|mmengine)'",
        r'\1 is not installed',
        r'pip install \1',
    ),
)
