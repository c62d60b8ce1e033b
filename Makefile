# `make book` and `make test` set up everything they need; they ask only for python3 with venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
UV := .venv-release/bin/uv
SITE := _build/html/index.html
SCENES := data/scenes-single/annotations/instances_test.json
RESULTS := earlyexit/study/results/scenes
FRESH := data/scenes-fresh-single/annotations/instances_test.json
# Chapters that take longest begin, so that at the end nobody waits for them.
LONG := $(patsubst %,book/%.ipynb,04_detector training_on_coco 06_fillers 11_who_should_leave 02_detection)
CHAPTERS := $(LONG) $(filter-out $(LONG),$(wildcard book/*.ipynb))

# Linux: large tensors on huge pages that are kept for the next step, instead of fresh memory from the system each time.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296

.DEFAULT_GOAL := help
.PHONY: help setup book serve test site-test lint format notebooks slides homework homework-class study beyond choosing gpu \
	minutes repository pins release-check release-lowest release-newest colab-check clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 22

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed as '$(PYTHON)'; name another one: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "'$(PYTHON)' has no venv module; on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[book,dev]"
	@touch $@

setup: $(STAMP) ## create .venv with the exact versions of constraints.txt

book: $(STAMP) ## run all chapters and build the book into _build/html
	$(BIN)/jupyter-book build . --warningiserror --keep-going -n
	$(BIN)/python tools/check_notebooks.py _build/jupyter_execute/book/*.ipynb _build/jupyter_execute/book/solutions/*.ipynb

serve: $(SITE) ## serve the built site at http://localhost:8000/ (built first if it is missing), for this machine alone
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(dir $(SITE)) 8000

test: $(STAMP) ## run the tests, then the chapters against their stored outputs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile --no-loadscope-reorder
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval --nbval-current-env -n auto --dist loadfile --no-loadscope-reorder $(CHAPTERS)

site-test: .venv/.site $(SITE) ## look at the built site in a browser (built first if it is missing); some five minutes
	$(BIN)/python -m pytest tests/site -m site

.venv/.site: $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e ".[site]"
	@touch $@

$(SITE):
	$(MAKE) book

lint: $(STAMP) ## check the style of the code, the repository's address and the chapters' first cells
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/set_repository.py --check
	$(BIN)/python tools/first_cell.py --check
	$(BIN)/python tools/exercises.py --check
	$(BIN)/python tools/homework.py --check

format: $(STAMP) ## rewrite the code in the common style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(STAMP) ## run the chapters in place and store their outputs
	$(BIN)/python tools/run_notebooks.py

minutes: $(STAMP) ## run the chapters, keep how long each takes, and write the lines that say so; a quarter of an hour
	$(BIN)/python tools/minutes.py --run

homework: $(STAMP) ## write the students' release of the homework and, into _build/homework, the lecturers' solutions
	$(BIN)/python tools/homework.py

homework-class: $(STAMP) ## mark a made class of 102 and say how long it takes; some ten minutes
	$(BIN)/python benchmarks/homework.py --json benchmarks/homework.json

slides: $(STAMP) ## make slides of all chapters for a lecture into _build/slides
	$(BIN)/python tools/slides.py

study: $(STAMP) $(SCENES) ## reproduce the paper's study on scenes into earlyexit/study/results; resumable, hours
	$(BIN)/earlyexit study --data scenes --folder data/scenes-single --out $(RESULTS) --jobs 2

beyond: $(STAMP) $(SCENES) $(FRESH) ## go beyond the paper on scenes, and compare who chooses; resumable, hours
	$(BIN)/earlyexit beyond --data scenes --folder data/scenes-single --many data/scenes \
		--fresh data/scenes-fresh-single --out $(RESULTS) --jobs 2
	$(MAKE) choosing

CLOCKED = 1 3 4 3-160
choosing: $(STAMP) $(SCENES) $(FRESH) ## train and compare who chooses with who does not, for chapter 11; resumable, hours
	$(BIN)/earlyexit choosing --data data/scenes --into runs/choosing --seeds 3 --jobs 2 --out $(RESULTS)
	$(BIN)/python benchmarks/choosing_clock.py runs/choosing/early-0 runs/choosing/early-160-0 $(CLOCKED:%=--static runs/choosing/static-%-0) \
		--out $(RESULTS) --onnx
	$(BIN)/earlyexit choosing --data data/scenes --into runs/choosing --seeds 3 --out $(RESULTS) \
		--fresh data/scenes-fresh --name scenes_many_fresh
	$(BIN)/earlyexit choosing scenes-early --data data/scenes-single --out $(RESULTS) --name scenes_single

# 3,330 scenes leave 2,011 test images with one object. The annotations of a split appear after its images.
$(SCENES): | $(STAMP)
	$(BIN)/python data_prep/make_scenes.py --out data/scenes --test 3330
	for split in train calibration test; do $(BIN)/python data_prep/single_object.py --out data/scenes-single \
		--annotations data/scenes/annotations/instances_$$split.json --images data/scenes/$$split || exit 1; done

# Another seed: test images by which nothing was chosen.
$(FRESH): | $(STAMP)
	$(BIN)/python data_prep/make_scenes.py --out data/scenes-fresh --seed 1 --test 3330 --split-only test
	$(BIN)/python data_prep/single_object.py --out data/scenes-fresh-single \
		--annotations data/scenes-fresh/annotations/instances_test.json --images data/scenes-fresh/test

gpu: $(STAMP) ## run the tests that need a GPU, and time the detectors on it for chapter 11; some ten minutes
	$(BIN)/python -m pytest tests -m gpu
	$(BIN)/python benchmarks/gpu.py --json earlyexit/study/results/gpu/times.json

repository: $(STAMP) ## write the repository's address everywhere: make repository URL=https://github.com/owner/name
	$(BIN)/python tools/set_repository.py $(URL)

$(UV): # resolves and installs versions other than those of .venv
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet uv

pins: $(UV) ## write constraints.txt for all Pythons; newer versions with UPGRADE=--upgrade
	$(UV) pip compile pyproject.toml --extra book --extra dev --extra site --universal --python-version 3.10 --quiet \
		--no-annotate --custom-compile-command "make pins" $(UPGRADE) --output-file constraints.txt

release-check: $(UV) ## build what would be published, use it far from the checkout
	.venv-release/bin/python tools/release_check.py built

release-lowest: $(UV) ## the wheel and the tests with the lowest declared versions, on Python 3.10
	.venv-release/bin/python tools/release_check.py lowest

release-newest: $(UV) ## the wheel and the tests with the newest versions, on Python 3.13
	.venv-release/bin/python tools/release_check.py newest

colab-check: $(UV) ## run every chapter as Colab would: alone in a folder, newest versions, package from a wheel
	.venv-release/bin/python tools/colab_check.py

clean: ## remove what was built (the environment and data stay)
	rm -rf _build .pytest_cache .ruff_cache build *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
