PYTHON ?= python3
VENV := .venv

.PHONY: setup demo test check

setup: $(VENV)/.ready
	@$(VENV)/bin/python -m rendering.install_egl

$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is not Python 3.11 or newer with venv: apt-get install python3-venv," \
		"or name another with make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: setup
	$(VENV)/bin/python -m benchmarks.stages --config config/small.yaml --datasets mini \
		--checkpoint_path data/weights/picopose_small.pt

test: check
	$(VENV)/bin/python -m pytest -q

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
