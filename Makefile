PYTHON ?= python3
VENV := .venv

.PHONY: setup demo announce test check

setup: $(VENV)/.ready
	@$(VENV)/bin/python -m picopose install-egl

$(VENV)/.ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is not Python 3.11 or newer with venv: apt-get install python3-venv," \
		"or name another with make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing what requirements.txt and requirements-dev.txt name into $(VENV): 5 GB, once; minutes, as fast as the network is"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

demo: announce setup
	$(VENV)/bin/python run_test.py --config config/default.yaml --dataset mini --score

announce:
	@echo "Finds the ten objects of data/mini in its twelve photos, scores the poses and writes a report into log/:"
	@echo "about a minute on two cores and 70 MB, the second time 15 seconds, for finished photos are not done again."

test: check
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
