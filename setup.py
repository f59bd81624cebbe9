"""Packaging. The project installs without Paddle: its user chooses the CPU or GPU build (extras ``cpu``, ``gpu``)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "paddle_cait" / "versions.py").read_text()).group(1)

setup(
    name="paddle_cait",
    version=VERSION,
    description="Image transformers for PaddlePaddle: exact ports, safe checkpoint imports, verified accuracies",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        # Paddle 2.6.2 has wheels up to 3.12, Paddle 3.3.1 up to 3.13
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    # The presets, the recipes and the demo travel inside the package.
    packages=[
        *find_packages(include=["paddle_cait", "paddle_cait.*"]),
        "paddle_cait.configs",
        "paddle_cait.pretrained",
    ],
    package_dir={"paddle_cait.configs": "configs", "paddle_cait.pretrained": "pretrained"},
    package_data={
        "paddle_cait": ["data/*.txt"],
        "paddle_cait.configs": ["*/*.yaml"],
        "paddle_cait.pretrained": ["README.md", "demo_cait_digits.pth", "demo_digits/*"],
    },
    install_requires=["numpy", "pillow", "opencv-python", "pyyaml", "tqdm"],
    extras_require={
        "cpu": ["paddlepaddle"],
        "gpu": ["paddlepaddle-gpu"],
        "keras": ["h5py"],
        "onnx": ["paddle2onnx", "onnx", "onnxruntime"],  # paddle2onnx 2.1 for Paddle 3, 1.3.1 for 2.6
        "openvino": ["paddle2onnx", "onnx", "openvino"],
        "int8": ["paddle2onnx", "onnx", "onnxruntime", "ml_dtypes", "openvino", "nncf"],
        "finetune": ["scipy", "matplotlib", "visualdl"],  # linear probes; pictures of a run; scalars on request
        "hub": ["huggingface_hub"],
        "explain": ["matplotlib>=3.5"],  # pictures of attention
        "app": ["gradio>=4.44", "matplotlib>=3.5"],  # the page that explores them
        "docs": ["sphinx==9.0.4", "myst-parser==5.2.0", "furo==2025.12.19"],  # the site; Python 3.11 or later
        # setuptools builds the wheel that the tests install
        "test": ["pytest", "pytest-xdist", "hypothesis", "h5py", "matplotlib", "scipy", "setuptools>=70.1"],
        "dev": ["ruff==0.17.6", "mypy==2.4.1", "types-PyYAML", "types-tqdm"],
        # torchvision and timm pull another torch, paddle2onnx an older onnx: `make oracles` installs these alone.
        "oracles": [
            "torch==2.13.0",
            "safetensors",
            "huggingface_hub",
            "scikit-learn",
            "scipy",
            "transformers==5.23.0",
            "onnx==1.23.2",
            "onnxruntime==1.31.1",
            "openvino==2026.4.1",
            "nncf==3.4.0",
            "ml_dtypes",
            "gradio",
            "playwright",
        ],
    },
    entry_points={"console_scripts": ["paddle-cait=paddle_cait.cli.main:main"]},
)
