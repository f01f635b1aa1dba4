# Every target sets up .venv by itself; nothing is installed outside it.
# Another Python than python3: make PYTHON=/path/to/python3.12 book

PYTHON ?= python3
PORT ?= 8000

PY := .venv/bin/python
READY := .venv/.ready
INSTRUCTOR := .venv-instructor/.ready
BUILT := _build/html/.built
PAGES := $(shell find _config.yml _toc.yml book chapters exercises mattn -type f \
	! -path '*/__pycache__/*' ! -path '*/.ipynb_checkpoints/*' \
	! -path chapters/exercises/'*' ! -path chapters/solutions/'*')

# One thread: on a busy machine OpenMP's threads wait for each other.
export OMP_NUM_THREADS = 1
export MATTN_PROGRESS = 0

.PHONY: help book test test-long serve lab notebooks tidy clean assignments grade pdf zip
.DEFAULT_GOAL := help

help: ## show this list
	@echo "mattn: masked self-attention, derived, executed and checked"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r name what; do printf '%-20s %s\n' "$$name" "$$what"; done

ifdef SOLUTIONS
book: $(READY) ## build the HTML book (SOLUTIONS=1: one with solutions, apart)
	@rm -rf _build/solutions
	@$(PY) book/exercises.py solutions
	.venv/bin/jupyter-book build . --path-output _build/solutions \
		--toc _build/solutions/_toc.yml -W -n --keep-going --all -q
	@rm -rf chapters/solutions
	@echo "Not for the public: file://$(CURDIR)/_build/solutions/_build/html/index.html"
else
book: $(BUILT)
	@echo "The book is built. Open it: file://$(CURDIR)/_build/html/index.html"
endif

assignments: $(READY) $(INSTRUCTOR) ## notebooks to give out, and a course of nbgrader (SEED=k)
	$(PY) book/assignments.py --seed $(or $(SEED),0)

grade: $(READY) $(INSTRUCTOR) ## grade a folder of notebooks (SUBMISSIONS=dir)
	@test -f _build/assignments/.built || $(MAKE) --no-print-directory assignments
	@$(PY) book/grade.py "$(SUBMISSIONS)" $(if $(GRADES),--out "$(GRADES)") \
		$(GRADE_OPTIONS)

test: $(READY) ## everything a change must pass: style, book, tests, outputs
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	@$(MAKE) --no-print-directory $(BUILT)
	$(PY) -m pytest tests chapters -n 2 --dist loadfile --nbval \
		--nbval-current-env --nbval-cell-timeout 900 \
		--nbval-sanitize-with tests/nbval_sanitize.cfg

test-long: $(READY) $(INSTRUCTOR) $(BUILT) ## what takes longer: browser, Colab, PDF, a class graded, mutants
	$(PY) -m pytest tests -m long

pdf: $(BUILT) ## the whole book as one PDF (needs chromium)
	@$(PY) book/pdf.py

zip: $(BUILT) ## the HTML book as one file, to be read without a server
	@$(PY) book/archive.py

serve: $(BUILT) ## build the book and serve it on this machine (PORT=8000)
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(READY) ## open the notebooks in JupyterLab
	@$(PY) book/exercises.py student
	MATTN_PROGRESS=1 $(PY) -m jupyter lab --notebook-dir=chapters

notebooks: $(READY) ## run every notebook and store its outputs in place
	$(PY) book/notebooks.py run

tidy: $(READY) ## canonical form: notebooks (not executed) and code style
	$(PY) book/notebooks.py tidy
	$(PY) book/notebooks.py tidy exercises/*.ipynb
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean: ## remove what was built (the set-up stays: delete .venv yourself)
	rm -rf _build build dist .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.txt constraints.txt pyproject.toml book/setup.sh
	@sh book/setup.sh $(PYTHON)
	@touch $@

# nbgrader, apart: readers never install it.
$(INSTRUCTOR): requirements-instructor.txt | $(READY)
	@echo "Setting up .venv-instructor: once, a minute, about 300 MB." >&2
	@$(PY) -m venv --clear .venv-instructor
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-instructor/bin/python -m pip install \
		--quiet -r requirements-instructor.txt
	@touch $@

# Always whole: a page that was not read again hides its warnings. What else is
# in _build, assignments and grades, stays.
$(BUILT): $(READY) $(PAGES)
	@rm -rf _build/html _build/.doctrees _build/.jupyter_cache _build/jupyter_execute
	.venv/bin/jupyter-book build . -W -n --keep-going --all -q
	@touch $@
