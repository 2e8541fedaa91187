"""Package metadata; the pinned environment is constraints.txt."""

from setuptools import find_packages, setup

# The MM libraries are extras, not requirements: upstream and the onedl fork
# install the same import packages, so a hard requirement on one of them would
# overwrite the other.
setup(
    name='pvt_mm',
    version='0.2.0',
    description='PVT, PVTv2 and MPViT for MMDetection and MMSegmentation',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['pvt_mm', 'pvt_mm.*']),
    # Links in a checkout, copies in a wheel.
    package_data={
        'pvt_mm': [
            '.mim/model-index.yml',
            '.mim/configs/**/*.py',
            '.mim/results/**/*.csv',
            '.mim/results/**/*.yml',
            '.mim/tools/*',
        ]
    },
    # What needs a checkout.
    exclude_package_data={
        'pvt_mm': [
            '.mim/tools/bare_machine.sh',
            '.mim/tools/cuda_toolkit.py',
            '.mim/tools/demo.py',
            '.mim/tools/gather_wheels.py',
            '.mim/tools/gpu_kit.py',
            '.mim/tools/*mmcv.py',
            '.mim/tools/render_pages.py',
            '.mim/tools/set_up.py',
        ]
    },
    entry_points={'console_scripts': ['pvt_mm = pvt_mm.cli:main']},
    # 2.6.0 is the oldest torch that tests/models and tests/checkpoints passed
    # with (on a CPU, but for those that need mmcv's operators).
    install_requires=['msgspec', 'numpy', 'rich', 'safetensors', 'torch>=2.6'],
    extras_require={
        'upstream': [
            'mmengine==0.10.7',
            'mmcv==2.1.0',
            'mmdet==3.3.0',
            'mmsegmentation==1.2.2',
            # mmseg's text encoder imports both without asking for them.
            'ftfy',
            'regex',
        ],
        'onedl': [
            'onedl-mmengine==0.10.12',
            'onedl-mmcv==2.3.6',
            'onedl-mmdetection==3.5.1',
            'onedl-mmsegmentation==1.4.2',
            'ftfy',
            'regex',
        ],
        'demo': ['gradio>=6'],
        'evaluation': ['faster-coco-eval'],
        'export': ['onnx', 'onnxruntime', 'onnxscript', 'torch>=2.7'],
        # transformers is a baseline; set-up adds timm, without torchvision.
        'test': [
            'faster-coco-eval',
            'hypothesis',
            'pytest',
            'pytest-xdist',
            'ruff',
            'transformers',
        ],
    },
)
