# `make lab` and `make test` are the main commands. The first call of either sets up the environment in .venv.
PYTHON = python3
VENV = .venv
PORT =
ARGS =
TESTS =
PIP_ARGS =

.PHONY: help lab test test-oldest notebooks figures lint setup

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'ARGS="..."            more arguments for the command; PORT=8899 is for make lab'
	@echo 'TESTS=tests/test_x.py what make test runs'
	@echo 'PIP_ARGS="..."        more arguments for pip at the set-up; after rm -r .venv that runs again'
	@echo 'PYTHON=python3.13     the Python that makes the environment; VENV=.venv is its folder'

# With the options news_url and check_for_updates_class JupyterLab asks no other host for news or for a newer version.
lab: setup ## open JupyterLab at the first notebook, or print its address where there is no browser
	@$(RUN) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/01_masks.ipynb \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  $$([ "$$(id -u)" != 0 ] || echo --allow-root) $$($(HAS_WINDOWS) || echo --no-browser) \
	  $(if $(PORT),--port=$(PORT)) $(ARGS)

test: setup ## run every test: the helpers, all notebooks, the sliders in a browser
	@$(PYTEST) $(ARGS) $(TESTS)

test-oldest: ## run the tests without a browser in .venv-oldest, with the oldest versions that pyproject.toml allows
	$(SET_UP)
	@$(PYTEST) $(addprefix --ignore=,$(wildcard tests/test_browser*.py)) $(ARGS) $(TESTS)
test-oldest: VENV = .venv-oldest
test-oldest: VERSIONS = oldest
test-oldest: PYTHON = python3.11

notebooks: setup ## run all notebooks in place and clean their outputs; ARGS="01 03" runs only these
	@$(RUN) -m pixelcnn_helpers notebooks $(ARGS)

figures: setup ## draw the pictures of the README and of the notebooks' first cells anew
	@$(RUN) -m pixelcnn_helpers figures $(ARGS)

lint: setup ## check the code's style
	@$(RUN) -m ruff check $(ARGS)

setup: ## install everything into .venv; the other commands do this first
	$(SET_UP)

# A folder's name can hold shell commands, as in a$(date)b. So no recipe contains a path of this folder: all paths are
# relative, and VENV reaches the shell through the environment.
export VENV
RUN = "$$VENV/bin/python"
# pytest runs several processes, so each of them computes with one thread.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest
# A browser in the terminal (Python's GenericBrowser) would cover the server's messages, so `make lab` opens none there.
HAS_WINDOWS = $(RUN) -c 'import webbrowser; exit(type(webbrowser.get()) is webbrowser.GenericBrowser)' 2>/dev/null

# Where the environment is ready, its own Python says so, and PYTHON is not needed.
VERSIONS = newest
define SET_UP
@$(RUN) .ci/set_up.py $(VERSIONS) --check 2>/dev/null || { \
  $(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
    echo '$(PYTHON) is not Python 3.11 or newer with its venv module (Debian: apt install python3-venv);' \
      'name another one with PYTHON=python3.12' >&2; exit 1; }; \
  $(PYTHON) .ci/set_up.py $(VERSIONS) $(PIP_ARGS); }
endef
