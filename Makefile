# Every target sets up .venv by itself; nothing is installed outside it.
# Another Python than python3: make PYTHON=/path/to/python3.12 book

PYTHON ?= python3
PORT ?= 8000

PY := .venv/bin/python
# Two processes, one file to each at a time.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile
READY := .venv/.ready
INSTRUCTOR := .venv-instructor/.ready
BUILT := _build/html/.built
# All that the book is made of.
SOURCES := $(sort $(shell find _config.yml _toc.yml book chapters exercises mattn \
	-type f ! -path '*/__pycache__/*' ! -path '*/.ipynb_checkpoints/*' \
	! -path chapters/exercises/'*' ! -path chapters/solutions/'*'))
MADE_OF = $(strip $(SOURCES) MATTN_SITE=$(MATTN_SITE))

# One thread: on a busy machine OpenMP's threads wait for each other.
export OMP_NUM_THREADS = 1
export MATTN_PROGRESS = 0

.PHONY: help book open mypy basedpyright test test-long test-all again serve lab notebooks tidy clean assignments grade pdf zip
.DEFAULT_GOAL := help

help: ## show this list
	@echo "mattn: masked self-attention, derived, executed and checked"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r name what; do printf '%-20s %s\n' "$$name" "$$what"; done

# Always whole: a page that is not read again hides its warnings. Built aside, then
# swapped: a build that breaks off leaves the old book standing. The stamp is as old
# as the beginning of the build, for a page may be changed meanwhile, and lists what
# the book is made of, for a page that goes away leaves nothing that is newer. At its
# end Jupyter Book names the place aside, so only what it said before is shown.
# $(1) is where the book is to stand, $(2) what else Jupyter Book is told.
define build
	@rm -rf _build/next
	@mkdir -p _build/next $(dir $(1))
	@printf '%s\n' '$(MADE_OF)' > _build/next/.built
	@echo "Building the book: a minute or two."
	@$(PY) .venv/bin/jupyter-book build . -W -n --keep-going --all -q \
		--path-output _build/next $(2) > _build/next/said || \
		{ cat _build/next/said; exit 1; }
	@sed '1,/^Output Path/d; /====/,$$d; /^ *$$/d' _build/next/said
	@mv _build/next/.built _build/next/_build/html/.built
	@if [ -e $(1) ]; then mv $(1) _build/next/old; fi
	@mv _build/next/_build/html $(1)
	@rm -rf _build/next
endef

ifdef SOLUTIONS
book: $(READY) ## build the HTML book (SOLUTIONS=1: one with solutions, apart)
	@$(PY) -m book.classroom.exercises solutions
	$(call build,_build/solutions/html,--toc _build/solutions/_toc.yml)
	@rm -rf chapters/solutions
	@$(PY) -m book.site.address "Not for the public." _build/solutions/html/index.html
else
book: $(BUILT)
	@$(PY) -m book.site.address "The book is built." _build/html/index.html
endif

open: $(BUILT) ## build the book and open it in a browser
	@$(PY) -m book.site.address --open "The book is built." _build/html/index.html

assignments: $(READY) $(INSTRUCTOR) ## notebooks to give out, and a course of nbgrader (SEED=k)
	$(PY) -m book.classroom.assignments --seed $(or $(SEED),0)

grade: $(READY) $(INSTRUCTOR) ## grade a folder of notebooks (SUBMISSIONS=dir)
	@test -f _build/assignments/.built || $(MAKE) --no-print-directory assignments
	@$(PY) -m book.classroom.grade "$(SUBMISSIONS)" $(if $(GRADES),--out "$(GRADES)") \
		$(GRADE_OPTIONS)

# Chapters first, since they have the longest cells: what comes last is short.
test: $(READY) ## everything a change must pass: style, types, book, tests, outputs
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	@$(MAKE) --no-print-directory --jobs 2 mypy basedpyright
	@$(MAKE) --no-print-directory $(BUILT)
	@echo "What takes longer is left out here: make test-long."
	$(PYTEST) --no-loadscope-reorder chapters tests --nbval \
		--nbval-current-env --nbval-cell-timeout 3600 \
		--nbval-sanitize-with tests/nbval_sanitize.cfg

mypy: $(READY)
	$(PY) -m mypy

basedpyright: $(READY)
	$(PY) -m basedpyright

test-long: $(READY) $(INSTRUCTOR) $(BUILT) ## what takes longer: browser, Colab, PDF, a class graded, mutants
	$(PYTEST) tests -m "long and not weekly"

test-all: test test-long ## both, what is dear, and the package as on an old processor
	$(PYTEST) tests -m weekly
	ATEN_CPU_CAPABILITY=default $(PYTEST) --package

pdf: $(BUILT) ## the whole book as one PDF (needs chromium)
	@$(PY) -m book.site.pdf

zip: $(BUILT) ## the HTML book as one file, to be read without a server
	@$(PY) -m book.site.archive

serve: $(BUILT) ## build the book and serve it on this machine (PORT=8000)
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(READY) ## open the notebooks in JupyterLab
	@$(PY) -m book.classroom.exercises student
	MATTN_PROGRESS=1 $(PY) -m jupyter lab --notebook-dir=chapters

notebooks: $(READY) ## run every notebook and store its outputs in place
	$(PY) -m book.notebooks run

tidy: $(READY) ## canonical form: notebooks (not executed) and code style
	$(PY) -m book.notebooks tidy
	$(PY) -m book.notebooks tidy exercises/*.ipynb
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean: ## remove what was built (the set-up stays: delete .venv yourself)
	rm -rf _build build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(READY): requirements.txt constraints.txt pyproject.toml book/setup.sh
	@sh book/setup.sh "$(PYTHON)"
	@touch $@

# nbgrader, apart: readers never install it.
$(INSTRUCTOR): requirements-instructor.txt | $(READY)
	@sh book/setup.sh $(PY) .venv-instructor
	@touch $@

ifneq ($(strip $(shell cat $(BUILT) 2>/dev/null)),$(MADE_OF))
$(BUILT): again
endif
$(BUILT): $(READY) $(SOURCES)
	$(call build,_build/html)
