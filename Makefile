# Two commands do all of their own set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba
# Of the installed service: it sees programs below /usr alone, so not the one of a home folder.
SERVICE_PYTHON ?= /usr/bin/python3
WHEELS ?= $(CURDIR)/build/wheels
EXTRAS ?= sign
PREFIX ?= /usr/local

.PHONY: demo test test-fast test-systemd soak soak-publish soak-daemon fuzz lint types bench bench-ingest bench-swaps bench-daemon bench-calibration bench-judgement bench-drift bench-reservoir bench-learning bench-fleet bench-backfill
.PHONY: wheels install uninstall clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/run.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/peers.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,peers]'
	touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $@

demo: $(VENV)/run.stamp ## the whole flow, live, in a minute (LOGS=FILE replays a log of yours)
	$(BIN)/streamtrain demo $(if $(LOGS),--logs '$(LOGS)')

lint: $(VENV)/dev.stamp ## format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev.stamp ## static types
	$(BIN)/mypy

# In the order of files: by itself xdist would put those with few tests last, which are the longest ones here.
test: lint types ## everything
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/dev.stamp ## the quicker ones, some two minutes, for the hand
	$(BIN)/pytest -n auto --dist loadfile -m 'not slow and not needs_npm and not needs_peers and not needs_root and not needs_browser'

test-systemd: $(VENV)/dev.stamp ## boot a real systemd with the service in it (root; needs ../shared/tools)
	$(BIN)/pytest tests/systemd -v -rP -p no:cacheprovider

soak: $(VENV)/dev.stamp ## kill the ingesting process 10,000 times (KILLS=N for another number)
	STREAMTRAIN_KILLS=$(or $(KILLS),10000) $(BIN)/pytest tests/ingest/test_soak.py -v -rP

soak-publish: $(VENV)/dev.stamp ## kill the publisher through 10,000 publishes and rollbacks (N=N for another number)
	STREAMTRAIN_PUBLISHES=$(or $(N),10000) $(BIN)/pytest tests/publish/test_soak.py -v -rP

soak-daemon: $(VENV)/dev.stamp ## 2,000 lines a second and a training every 10 s, for 24 hours (MINUTES=N for another time)
	$(BIN)/python bench/daemon.py --soak $(or $(MINUTES),1440)

fuzz: $(VENV)/dev.stamp ## anything at all as lines, files, gzip, state and published versions, five minutes for either
	STREAMTRAIN_FUZZ_SECONDS=$(or $(SECONDS_EACH),75) $(BIN)/pytest tests/fuzz -v -p no:cacheprovider

bench-ingest: $(VENV)/bench.stamp ## lines a second, memory (GB=10 for so much) and delay of reading, beside its peers
	$(BIN)/python bench/ingest.py $(if $(GB),--big-gb $(GB))

bench-swaps: $(VENV)/dev.stamp ## swapping while serving: how soon the next version answers, and what calls cost meanwhile
	$(BIN)/python bench/swaps.py

bench-calibration: $(VENV)/dev.stamp ## whole passes, counted: calibration errors, and how often a promised error rate holds (RUNS=N)
	$(BIN)/python bench/calibration.py $(or $(RUNS),200)

bench-judgement: $(VENV)/dev.stamp ## how often the gate is right, counted on real trainings; writes docs/judgement.md
	$(BIN)/python bench/judgement.py

bench-daemon: $(VENV)/dev.stamp ## the daemon at rest, its memory, and how soon the last line is in what is served
	$(BIN)/python bench/daemon.py

bench-drift: $(VENV)/dev.stamp ## how soon it is right again after a change, false alarms, rollbacks; writes docs/drift.md
	$(BIN)/python bench/drift.py

bench-reservoir: $(VENV)/dev.stamp ## what a rare class, and everything else, is worth with reservoirs of several sizes
	$(BIN)/python bench/reservoir.py

bench-learning: $(VENV)/peers.stamp ## what is learned from recorded outcomes, beside peers; writes docs/learning.md (FRESH=1: peers anew too, hours)
	$(BIN)/python bench/learned.py $(if $(FRESH),--fresh)

bench-backfill: $(VENV)/dev.stamp ## 20 million lines by one and by two workers: time, memory, bits, accuracy (a quarter of an hour, 3 GB of disk)
	$(BIN)/python bench/backlog.py

bench-fleet: $(VENV)/dev.stamp ## what pulling costs, measured for one host and simulated for 10,000
	$(BIN)/python bench/fleet.py

bench: $(VENV)/peers.stamp ## side by side with its peers; writes docs/benchmarks.md
	$(BIN)/python bench/run.py

# Again whenever the sources are newer. Elsewhere (WHEELS=DIR) they are taken as they are.
$(CURDIR)/build/wheels/.stamp: pyproject.toml $(shell find streamtrain -type f -not -name '*.pyc')
	$(MAKE) wheels

wheels: ## all that the service needs, so that `make install` needs no network (WHEELS=DIR, EXTRAS=sign,parquet)
	rm -rf build/pip && $(SERVICE_PYTHON) -m venv build/pip
	rm -f '$(WHEELS)'/streamtrain-*.whl
	build/pip/bin/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir '$(WHEELS)' '.[$(EXTRAS)]'
	touch '$(WHEELS)/.stamp'

install: $(if $(filter $(CURDIR)/build/wheels,$(abspath $(WHEELS))),$(CURDIR)/build/wheels/.stamp) ## as a systemd service, by root; again: upgrade (DESTDIR=DIR stages it there)
	@PYTHON='$(SERVICE_PYTHON)' WHEELS='$(WHEELS)' EXTRAS='$(EXTRAS)' PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' \
		SYSTEMD_VERSION='$(SYSTEMD_VERSION)' systemd/install.sh

uninstall: ## the service; configuration, models, state and logs stay
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' systemd/uninstall.sh

clean: ## remove what the commands above made
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build bench/out
