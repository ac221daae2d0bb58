# Two commands matter: `make lab` and `make test`. Each first sets up what it needs in .venv, once.
PYTHON = python3
VENV = .venv
PORT =
ARGS =
TESTS =
PIP_ARGS =
BIN = $(VENV)/bin

.PHONY: help lab test notebooks figures lint setup install

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'ARGS="..."            more arguments for the command, PORT=8899 for make lab'
	@echo 'TESTS=tests/test_x.py what make test runs'
	@echo 'PIP_ARGS="..."        more arguments for pip at the set-up; rm -r .venv starts that anew'
	@echo 'PYTHON=python3.13     the Python that makes the environment; VENV=.venv is its folder'

lab: setup ## open JupyterLab at the first notebook, or print its address where there is no browser
	@$(BIN)/python -m jupyterlab --ServerApp.root_dir="$(CURDIR)" \
	  --LabApp.default_url=/lab/tree/notebooks/01_masks.ipynb \
	  $$([ "$$(id -u)" != 0 ] || echo --allow-root) $$($(HAS_WINDOWS) || echo --no-browser) \
	  $(if $(PORT),--port=$(PORT)) $(ARGS)

test: setup ## run every test: the helpers, all notebooks, the sliders in a browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS) $(TESTS)  # one thread for each of pytest's processes

notebooks: setup ## run all notebooks in place and clean their outputs; ARGS="01 03" runs only these
	@$(BIN)/python -m pixelcnn_helpers notebooks $(ARGS)

figures: setup ## draw the pictures of the README and of the notebooks' first cells anew
	@$(BIN)/python -m pixelcnn_helpers figures $(ARGS)

lint: setup ## check the code's style
	@$(BIN)/python -m ruff check $(ARGS)

# Python calls a browser of the terminal a GenericBrowser: it would hide the server's words, and an address serves better.
HAS_WINDOWS = $(BIN)/python -c \
	'import webbrowser; exit(type(webbrowser.get()) is webbrowser.GenericBrowser)' 2>/dev/null

# The set-up was finished here, since the environment holds this folder's path, for this pyproject.toml; and it runs.
READY = [ ! -e $(VENV)/.unfinished ] && [ "$$(cat $(VENV)/.ready 2>/dev/null)" = "$$(pwd -P; cat pyproject.toml)" ] \
	&& $(BIN)/python -c 'import pip' 2>/dev/null

setup: ## only what the others do first: install everything into .venv
	@$(READY) || { $(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo '$(PYTHON) is not Python 3.11 or newer with its venv module (Debian: apt install python3-venv);' \
	    'name another one with PYTHON=python3.12' >&2; exit 1; }; \
	  $(PYTHON) -c "$$ALONE" $(MAKE) --no-print-directory install; }

# One set-up at a time. The lock ends with the last process that inherited it: a pip that outlived its make holds it too.
define ALONE
import fcntl, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
lock = os.open("pyproject.toml", os.O_RDWR)
os.set_inheritable(lock, True)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another set-up is at work in this folder: waiting for its end.", flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)
os.execvp(sys.argv[1], sys.argv[1:])
endef
export ALONE

# .unfinished stands from before the first file to after the last. Who finds it starts afresh, since pip takes a
# half-written package for an installed one. Only an environment is ever emptied, and not one that was ready before
# where pip itself gave up (offline, say): it rolls back, and the next call tries again.
install:
	@$(READY) && exit; set -e; \
	if [ ! -e $(VENV)/.unfinished ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if [ ! -e $(VENV)/pyvenv.cfg ] && [ -n "$$(ls -A $(VENV) 2>/dev/null)" ]; then \
	    echo '$(VENV) is in the way: it is no virtual environment, and stays as it is' >&2; exit 1; fi; \
	  mkdir -p $(VENV); touch $(VENV)/.unfinished; \
	fi; \
	if [ -e $(VENV)/.unfinished ]; then \
	  find $(VENV) -mindepth 1 ! -name .unfinished -delete; \
	  $(PYTHON) -m venv $(VENV); \
	fi; \
	touch $(VENV)/.unfinished; \
	$(BIN)/python -m pip install $(PIP_ARGS) -e '.[notebooks,test]' \
	  || { [ ! -e $(VENV)/.ready ] || rm $(VENV)/.unfinished; exit 1; }; \
	{ pwd -P; cat pyproject.toml; } > $(VENV)/.unfinished; \
	mv $(VENV)/.unfinished $(VENV)/.ready
