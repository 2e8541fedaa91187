# Each target sets up what it needs; a second call finds it and starts at once.
# Variables: PYTHON=/path/to/python3.12, STACK=onedl (the maintained fork,
# in .venv-onedl), and those of tools/set_up.py.

STACK := upstream
VENV := .venv$(if $(filter-out upstream,$(STACK)),-$(STACK))
PYTHONS := $(or $(PYTHON),python3.11 python3 python3.12 python3.13)
ALL := $(or $(PYTHON),python3.11 python3.12 python3.13)
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.PHONY: help setup wheels train demo test test-slow test-pythons test-python few-epochs \
    benchmark test-gpu benchmark-gpu gpu-kit lint doctor

# With KIT=gpu-kit, on a machine without network: its own Python, and what
# gpu-kit/install.sh has installed.
SITE := $(if $(KIT),:$(abspath $(KIT))/site)
GPU := PYTHONPATH=$(CURDIR):$(CURDIR)/tools$(SITE) \
    $(if $(KIT),$(or $(PYTHON),python3),$(VENV)/bin/python)

help:
	@echo 'make train      train a detector on drawn images and print its AP'
	@echo 'make demo       show the trained model in the browser'
	@echo 'make test       run the tests'
	@echo 'make test-slow  run the tests that take minutes'
	@echo 'make test-pythons  set up and try each Python that is found'
	@echo 'make setup      only set up .venv (the others do it too)'
	@echo 'make wheels     write wheels for another environment to dist'
	@echo 'make benchmark  measure speed and memory beside other libraries'
	@echo 'make test-gpu   run the tests that need a GPU'
	@echo 'make benchmark-gpu  measure detectors and backbones on a GPU'
	@echo 'make gpu-kit    gather both for a machine without network'
	@echo 'make lint       check the style of the code'
	@echo 'make doctor     find what is wrong with the installed libraries'

setup:
	@for python in $(PYTHONS); do \
	    if "$$python" -c '$(FITS)' 2>/dev/null; then \
	        PVT_MM_STACK='$(STACK)' PVT_MM_VENV='$(VENV)' \
	            exec "$$python" tools/set_up.py; \
	    fi; \
	done; \
	echo 'No Python 3.11 to 3.13 among: $(PYTHONS). Install it (Debian,' \
	    'Ubuntu: apt-get install python3 python3-venv python3-dev) or' \
	    'name it: make PYTHON=/path/to/python.' >&2; \
	exit 1

wheels: setup
	@PVT_MM_STACK='$(STACK)' PVT_MM_VENV='$(VENV)' \
	    $(VENV)/bin/python tools/gather_wheels.py

train: setup
	$(VENV)/bin/python tools/demo.py

demo: setup
	@$(VENV)/bin/python -c 'import gradio' 2>/dev/null || \
	    $(VENV)/bin/python -m pip install -qq 'gradio>=6'
	$(VENV)/bin/pvt_mm demo

test: setup
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(VENV)/bin/python -m pytest -n 2 -m slow

test-pythons:
	@for python in $(ALL); do \
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	        || continue; \
	    $(MAKE) test-python PYTHON="$$python" VENV=".venv-$$version" || exit 1; \
	done

test-python: doctor
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile tests/models \
	    tests/checkpoints
	@$(MAKE) few-epochs PYTHON='$(PYTHON)' VENV='$(VENV)'

# A training of two epochs on few images.
few-epochs: setup
	$(VENV)/bin/pvt_mm draw-data --out data/few --images 64
	$(VENV)/bin/python tools/train.py configs/retinanet_pvt_v2_b0_shapes.py \
	    --work-dir work_dirs/few --cfg-options train_cfg.max_epochs=2 \
	    data_root=data/few/coco/

benchmark: setup
	PYTHONPATH=tools $(VENV)/bin/python -m baselines

test-gpu: $(if $(KIT),,setup)
	$(GPU) -m pytest -m gpu tests/gpu

benchmark-gpu: $(if $(KIT),,setup)
	$(GPU) -m baselines.gpu

gpu-kit: setup
	@PVT_MM_STACK='$(STACK)' $(VENV)/bin/python tools/gpu_kit.py

lint: setup
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .

doctor: setup
	$(VENV)/bin/python -m pvt_mm.doctor
